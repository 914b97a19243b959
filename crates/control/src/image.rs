//! Images of deployments: pulled or taken from an upload, written down beside other code, and forgotten with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rouse_api::{DeployEvent, DeployFunction, DeployImage, RegistryLogin};
use rouse_image::{Credentials, Reference, Registry, archive, layers};
use rouse_types::{Code, Digest, Image, Refusal, TenantId};
use tokio::{sync::RwLock, time::sleep};

use crate::{body::Lines, code, control::Control, state};

/// How often it is told how far a pull is.
const TELL_INTERVAL: Duration = Duration::from_millis(250);

/// The images of this machine.
#[derive(Debug)]
pub(crate) struct Images {
    code: PathBuf,
    store: rouse_image::Store,
    registry: Registry,
    /// Held shared from the search for layers until the image that names them is written down; and alone while layers
    /// are deleted.
    naming: RwLock<()>,
    /// Layers that no image names, since when.
    unwanted: Mutex<BTreeMap<Digest, Instant>>,
}

impl Images {
    pub(crate) fn open(state: &Path, insecure: &[String]) -> io::Result<Self> {
        Ok(Self {
            code: state.join("code"),
            store: rouse_image::Store::open(state)?,
            registry: Registry::new(insecure.iter().cloned()).map_err(io::Error::other)?,
            naming: RwLock::default(),
            unwanted: Mutex::default(),
        })
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        self.code.join(digest.hex())
    }

    /// The digests under which images are written down.
    pub(crate) fn recorded(&self) -> io::Result<BTreeSet<Digest>> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&self.code)? {
            let entry = entry?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy()).parse::<Digest>();
            if let Ok(digest) = digest
                && entry.path().join(Image::FILE).is_file()
            {
                found.insert(digest);
            }
        }
        Ok(found)
    }

    /// Deletes layers that no image has named for the grace period. What a deployment is about to name is not touched:
    /// while there is one, the next turn does it.
    pub(crate) async fn collect(&self, grace: Duration) -> io::Result<()> {
        let Ok(_alone) = self.naming.try_write() else { return Ok(()) };
        let mut named = BTreeSet::new();
        for digest in self.recorded()? {
            named.extend(layers::read(&self.place(&digest))?.layers);
        }
        let there = self.store.list()?;
        let due: Vec<Digest> = {
            let mut unwanted = self.unwanted.lock().unwrap_or_else(PoisonError::into_inner);
            let (now, before) = (Instant::now(), std::mem::take(&mut *unwanted));
            for layer in there.difference(&named) {
                unwanted.insert(*layer, before.get(layer).copied().unwrap_or(now));
            }
            let due = unwanted.iter().filter(|(_, since)| now.duration_since(**since) >= grace);
            due.map(|(layer, _)| *layer).collect()
        };
        for layer in due {
            let store = self.store.clone();
            tokio::task::spawn_blocking(move || store.delete(&layer)).await.map_err(io::Error::other)??;
            tracing::info!(%layer, "deleted a layer that no image names");
        }
        Ok(())
    }
}

impl Control {
    /// Puts a function's image in its place, and says in the function which it is.
    pub(crate) async fn prepare_image(
        &self,
        tenant: &TenantId,
        function: &mut DeployFunction,
        events: &mut Lines<DeployEvent>,
    ) -> Result<(), Refusal> {
        let started = Instant::now();
        let _naming = self.images.naming.read().await;
        let (digest, image) = match (function.image.take(), function.code) {
            (Some(wanted), _) => self.pull(tenant, &wanted, function, events).await?,
            (None, Some(digest)) => self.unpack_image(digest, function, events).await?,
            // The check of the request lets no such one through.
            (None, None) => return Err(Refusal::new(Code::ManifestInvalid, "it has no image")),
        };
        if image.argv(&function.http.command).is_empty() {
            return Err(Refusal::new(Code::ImageInvalid, "the image names no program to start")
                .hint("give it an ENTRYPOINT or CMD, or write command = [\"/app/server\"] in rouse.toml"));
        }
        let (place, recorded) = (self.images.place(&digest), image.clone());
        let done = tokio::task::spawn_blocking(move || layers::record(&place, &recorded)).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| state::io_refusal("write down an image", &error))?;
        function.code = Some(digest);
        function.image =
            image.reference.map(|reference| DeployImage { reference, login: None, secret: None });
        let event = DeployEvent::Unpacked {
            function: function.name.clone(),
            ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            cached: false,
        };
        events.send(&event).await;
        Ok(())
    }

    async fn pull(
        &self,
        tenant: &TenantId,
        wanted: &DeployImage,
        function: &DeployFunction,
        events: &mut Lines<DeployEvent>,
    ) -> Result<(Digest, Image), Refusal> {
        let reference: Reference = wanted.reference.parse()?;
        let login = match (&wanted.login, &wanted.secret) {
            (Some(RegistryLogin { username, password }), _) => Some((username.clone(), password.clone())),
            (None, Some(name)) => Some(self.registry_login(tenant, name).await?),
            (None, None) => None,
        };
        let login = login.map(|(username, password)| Credentials { username, password });
        let remote = self.images.registry.find(&reference, login).await?;
        self.in_use(remote.digest);
        let (done, total) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let told = {
            let (done, total) = (Arc::clone(&done), Arc::clone(&total));
            move |bytes, all| {
                done.store(bytes, Ordering::Relaxed);
                total.store(all, Ordering::Relaxed);
            }
        };
        let mut pull = Box::pin(remote.pull(&self.images.store, &told));
        let mut last = None;
        let image = loop {
            tokio::select! {
                image = &mut pull => break image?,
                () = sleep(TELL_INTERVAL) => {
                    let now = (done.load(Ordering::Relaxed), total.load(Ordering::Relaxed));
                    if last.replace(now) != Some(now) {
                        let function = function.name.clone();
                        events.send(&DeployEvent::Pulling { function, bytes: now.0, total: now.1 }).await;
                    }
                }
            }
        };
        drop(pull);
        Ok((remote.digest, image))
    }

    async fn unpack_image(
        &self,
        digest: Digest,
        function: &DeployFunction,
        events: &mut Lines<DeployEvent>,
    ) -> Result<(Digest, Image), Refusal> {
        let blob = self.blobs.path(&digest).ok_or_else(|| code::missing(&digest))?;
        let _lock = self.locks.hold(format!("code {digest}")).await;
        self.in_use(digest);
        events.send(&DeployEvent::Unpacking { function: function.name.clone() }).await;
        let store = self.images.store.clone();
        let unpacked = tokio::task::spawn_blocking(move || {
            let file = File::open(blob).map_err(|error| state::io_refusal("read an upload", &error))?;
            archive::install(file, &store)
        });
        let image = unpacked
            .await
            .map_err(|error| state::io_refusal("unpack an image", &io::Error::other(error)))??;
        Ok((digest, image))
    }
}
