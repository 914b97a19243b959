//! Whatever is done in whatever order: names have one owner, slots one function, numbers one meaning.

use std::collections::HashMap;

use proptest::prelude::*;
use rouse_store::records::{Expect, Revision};
use rouse_types::{Isolation, Limits, Runtime, Scaling};
use serde::de::DeserializeOwned;

use super::*;

/// A store of records in memory, with the same rules.
#[derive(Default)]
struct Store {
    records: BTreeMap<(String, String), (Revision, Vec<u8>)>,
    writes: u64,
}

impl Store {
    fn get<T: DeserializeOwned>(&self, namespace: &str, key: &str) -> Option<At<T>> {
        let (revision, bytes) = self.records.get(&(namespace.to_owned(), key.to_owned()))?;
        let value = serde_json::from_slice(bytes).expect("what was written");
        Some(At { key: key.to_owned(), value, revision: *revision })
    }

    fn all<T: DeserializeOwned>(&self, namespace: &str) -> Vec<At<T>> {
        let keys = self.records.keys().filter(|(of, _)| of == namespace);
        keys.filter_map(|(_, key)| self.get(namespace, key)).collect()
    }

    fn commit(&mut self, writes: Vec<Write>) {
        for Write { namespace, key, expect, value } in writes {
            let place = (namespace, key);
            let found = self.records.get(&place).map(|(revision, _)| *revision);
            match expect {
                Expect::Any => {}
                Expect::Absent => assert_eq!(found, None, "{place:?} is there already"),
                Expect::At(revision) => assert_eq!(found, Some(revision), "{place:?}"),
            }
            self.writes += 1;
            match value {
                Some(value) => drop(self.records.insert(place, (Revision(self.writes), value))),
                None => drop(self.records.remove(&place)),
            }
        }
    }

    fn view(&self, app: &AppName, names: &[FunctionName]) -> View {
        let record: Option<At<App>> = self.get(state::APPS, &state::app_key(&tenant(), app));
        let had = record.iter().flat_map(|at| at.value.functions.clone());
        let functions = names.iter().cloned().chain(had).map(|name| {
            let record = self.get(state::FUNCTIONS, &state::function_key(&tenant(), &name));
            (name, record)
        });
        let domains = (0..4).map(domain).map(|domain| {
            let claim = self.get(state::DOMAINS, domain.as_str());
            (domain, claim)
        });
        let domains = domains.collect();
        View { tenant: tenant(), app: app.clone(), functions: functions.collect(), record, domains }
    }

    fn deployments(&self, app: &AppName) -> Vec<Deployment> {
        let prefix = format!("{}/", state::app_key(&tenant(), app));
        let all = self.all::<Deployment>(state::DEPLOYMENTS).into_iter();
        all.filter(|at| at.key.starts_with(&prefix)).map(|at| at.value).collect()
    }
}

fn domain(number: u8) -> Domain {
    format!("d{number}.example").parse().expect("a domain")
}

fn tenant() -> TenantId {
    "default".parse().expect("a name")
}

#[derive(Debug, Clone)]
enum Step {
    /// Functions with their code.
    Deploy(u8, BTreeMap<u8, u8>),
    Rollback(u8, prop::sample::Index),
    Delete(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let functions = prop::collection::btree_map(0..5u8, 0..4u8, 1..4);
    let step = prop_oneof![
        4 => (0..3u8, functions).prop_map(|(app, functions)| Step::Deploy(app, functions)),
        2 => (0..3u8, any::<prop::sample::Index>()).prop_map(|(app, to)| Step::Rollback(app, to)),
        1 => (0..3u8).prop_map(Step::Delete),
    ];
    prop::collection::vec(step, 1..40)
}

fn request(functions: &BTreeMap<u8, u8>) -> DeployRequest {
    let functions = functions.iter().map(|(name, code)| DeployFunction {
        name: format!("f{name}").parse().expect("a name"),
        code: Some(Digest::of(&[*code])),
        image: None,
        runtime: Runtime::Component,
        contract: None,
        http: rouse_types::HttpSettings::default(),
        handler: None,
        isolation: Isolation::Wasm,
        env: BTreeMap::new(),
        secrets: Default::default(),
        limits: Limits::default(),
        scaling: Scaling::default(),
        egress: rouse_types::Egress::default(),
        invoke: rouse_types::InvokePolicy::default(),
        // Code 3 has none; of others with the same code one alone may be live.
        domains: (*code < 3).then(|| domain(*code)).into_iter().collect(),
        triggers: Vec::new(),
        events: rouse_types::EventSettings::default(),
        lambda: None,
        aliases: Vec::new(),
    });
    DeployRequest { functions: functions.collect(), message: None }
}

fn check(store: &Store, slots_taken: usize) {
    let apps: BTreeMap<String, App> =
        store.all::<App>(state::APPS).into_iter().map(|at| (at.key, at.value)).collect();
    let claims: BTreeMap<String, Claim> =
        store.all::<Claim>(state::DOMAINS).into_iter().map(|at| (at.key, at.value)).collect();
    let held =
        apps.iter().flat_map(|(key, app)| app.domains.iter().map(move |(domain, of)| (domain, key, of)));
    for (domain, app, function) in held.clone() {
        let claim = &claims[domain.as_str()];
        assert_eq!(
            (state::app_key(&claim.tenant, &claim.app).as_str(), &claim.function),
            (app.as_str(), function)
        );
        assert!(apps[app].functions.contains(function));
    }
    assert_eq!(held.count(), claims.len(), "a domain was lost, or never let go");
    let functions = store.all::<Function>(state::FUNCTIONS);
    let slots: Vec<u32> = functions.iter().filter_map(|at| at.value.slot).collect();
    assert_eq!(slots.iter().collect::<BTreeSet<_>>().len(), slots.len(), "a slot has two functions");
    assert_eq!(slots.len(), slots_taken, "a slot was lost, or never given back");
    for At { key, value, .. } in &functions {
        assert_eq!(value.app.is_some(), value.slot.is_some());
        assert!(value.versions.keys().all(|number| *number < value.next));
        let name: FunctionName = key.split('/').nth(1).expect("a name").parse().expect("a name");
        let owners: Vec<_> =
            apps.iter().filter(|(_, app)| app.functions.contains(&name)).map(|(key, _)| key).collect();
        match &value.app {
            Some(app) => assert_eq!(owners, [&format!("default/{app}")]),
            None => assert!(owners.is_empty() && value.aliases.is_empty()),
        }
        if value.app.is_some() {
            let live = value.aliases["live"].pick(0).expect("a version");
            assert!(value.versions.contains_key(&live) && value.versions.contains_key(&value.latest));
        }
        for number in value.versions.keys() {
            let record = store.get::<Version>(state::VERSIONS, &state::numbered(key, *number));
            assert_eq!(record.expect("the version").value.version.number, *number);
        }
    }
}

proptest! {
    #[test]
    fn any_order_of_changes_keeps_the_records_sound(steps in steps()) {
        let mut store = Store::default();
        let mut slots = Slots::without(&BTreeSet::new(), 100);
        let mut taken = 0;
        let mut meanings: HashMap<(String, u64), Digest> = HashMap::new();
        for step in steps {
            let number = match &step {
                Step::Deploy(app, _) | Step::Rollback(app, _) | Step::Delete(app) => app,
            };
            let app: AppName = format!("app{number}").parse().expect("a name");
            let live = store.get::<App>(state::APPS, &state::app_key(&tenant(), &app))
                .and_then(|at| at.value.live);
            let plan = match step {
                Step::Deploy(_, functions) => {
                    let request = request(&functions);
                    let names: Vec<_> = request.functions.iter().map(|each| each.name.clone()).collect();
                    deploy(&store.view(&app, &names), &request, Timestamp(1), &mut slots)
                }
                Step::Rollback(_, to) => {
                    let deployments = store.deployments(&app);
                    if deployments.is_empty() { continue }
                    let to = to.get(&deployments);
                    let names: Vec<_> = to.functions.iter().map(|each| each.function.clone()).collect();
                    rollback(&store.view(&app, &names), to, &mut slots)
                }
                Step::Delete(_) => {
                    if live.is_none() { continue }
                    let numbers: Vec<_> = store.deployments(&app).iter().map(|each| each.number).collect();
                    delete(&store.view(&app, &[]), &numbers, &mut slots)
                }
            };
            match plan {
                Ok(plan) => {
                    taken = taken + plan.taken.len() - plan.freed.len();
                    slots.give(plan.freed);
                    store.commit(plan.writes);
                }
                Err(refusal) => {
                    prop_assert!(matches!(refusal.code, Code::NameTaken | Code::DomainTaken));
                }
            }
            check(&store, taken);
            for At { key, value, .. } in store.all::<Version>(state::VERSIONS) {
                let digest = *meanings.entry((key, value.version.number)).or_insert(value.version.digest);
                prop_assert_eq!(digest, value.version.digest, "a version changed");
            }
        }
    }
}
