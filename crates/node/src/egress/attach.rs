//! A driver whose sandboxes have a way out, whatever contract is spoken with them.

use std::{net::SocketAddr, sync::Arc};

use rouse_sandbox::{Driver, Error, Exit, Sandbox, Spec, Started, Stats, Stream};
use rouse_types::Egress;
use tokio::task::JoinSet;

use super::{Dialer, names::Names, plan::Plan, resolver, way::Way};

/// Starts sandboxes that may reach the same.
pub struct WithEgress<D> {
    /// What starts them.
    pub driver: Arc<D>,
    /// What dials for them.
    pub dialer: Arc<Dialer>,
    /// What they may reach.
    pub egress: Egress,
    /// Takes a line about each thing that they could not reach, and why.
    pub say: Arc<dyn Fn(String) + Send + Sync>,
}

impl<D> std::fmt::Debug for WithEgress<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WithEgress").field("egress", &self.egress).finish_non_exhaustive()
    }
}

/// A sandbox with its way out, which ends with it.
#[derive(Debug)]
pub struct Attached<S> {
    sandbox: S,
    /// Held for the sandbox' life.
    _way: JoinSet<()>,
}

impl<D: Driver> Driver for WithEgress<D> {
    type Sandbox = Attached<D::Sandbox>;

    async fn start(&self, mut spec: Spec) -> Result<Started<Self::Sandbox>, Error> {
        let egress = &self.egress;
        let others = spec.listeners.len();
        let plan = Plan::new(egress, &spec.listeners);
        plan.apply(egress, &mut spec);
        let mut started = self.driver.start(spec).await?;
        let say = {
            let say = Arc::clone(&self.say);
            Box::new(move |line| say(line))
        };
        for lost in &plan.lost {
            say(format!(
                "egress to {lost} cannot be given: the platform itself listens there in each instance"
            ));
        }
        let names = Names::new(egress.clone(), plan.targets);
        let way = Arc::new(Way::new(names, Arc::clone(&self.dialer), say));
        let mut tasks = JoinSet::new();
        let ours = started.listeners.split_off(others.min(started.listeners.len()));
        for (listener, at) in ours.into_iter().zip(plan.listeners) {
            tasks.spawn(Arc::clone(&way).serve(listener, at));
        }
        if let Some(socket) = started.resolver.take() {
            tasks.spawn(resolver::serve(socket, way));
        }
        let Started { sandbox, listeners, resolver, stdout, stderr } = started;
        let sandbox = Attached { sandbox, _way: tasks };
        Ok(Started { sandbox, listeners, resolver, stdout, stderr })
    }
}

impl<S: Sandbox> Sandbox for Attached<S> {
    async fn freeze(&self) -> Result<(), Error> {
        self.sandbox.freeze().await
    }

    async fn thaw(&self) -> Result<(), Error> {
        self.sandbox.thaw().await
    }

    async fn dial(&self, address: SocketAddr) -> Result<Stream, Error> {
        self.sandbox.dial(address).await
    }

    fn stats(&self) -> Stats {
        self.sandbox.stats()
    }

    fn kill(&self) {
        self.sandbox.kill();
    }

    async fn exited(&self) -> Exit {
        self.sandbox.exited().await
    }
}
