//! What the tests of sinks need: a sink from a manifest's text, and deliveries for it.

use std::path::Path;
use std::sync::Arc;

use emaj::errors::Error;
use emaj::manifest::{self, Event, Manifest};
use emaj::names::QualifiedName;
use emaj::pg::Environment;
use emaj::sink::{Action, Delivery, Message, Offset, Opener, RowChange, opener};

use super::{Database, shared_cluster};

/// Writes the sink into a database of the tests' cluster, in YAML.
pub fn sink_into(db: &Database, role: &str) -> String {
    let cluster = shared_cluster();
    format!(
        "{{ postgres: {{ host: \"{}\", port: {}, dbname: {}, user: {role} }} }}",
        cluster.socket_dir().display(),
        cluster.port(),
        db.name()
    )
}

/// Reads a manifest whose sink is called `there`.
pub fn manifest_of(folder: &Path, text: &str) -> Manifest {
    let path = folder.join("sink.yaml");
    std::fs::write(&path, format!("version: 1\n{text}\n")).expect("a manifest in the test's folder");
    manifest::load(&[path])
        .unwrap_or_else(|error| panic!("{error}"))
        .manifest
}

/// Makes what opens the sink `there`, for the installation `here`.
pub fn opener_of(folder: &Path, sink: &str, variables: &[(&str, &str)]) -> Box<dyn Opener> {
    named_opener_of(folder, "there", sink, variables)
}

/// Makes what opens a sink, for the installation `here`.
pub fn named_opener_of(folder: &Path, name: &str, sink: &str, variables: &[(&str, &str)]) -> Box<dyn Opener> {
    try_opener(folder, name, sink, variables).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`named_opener_of`]; what is wrong with the settings is handed back.
pub fn try_opener(folder: &Path, name: &str, sink: &str, variables: &[(&str, &str)]) -> Result<Box<dyn Opener>, Error> {
    opener_in(
        &manifest_of(folder, &format!("sinks: {{ {name}: {sink} }}")),
        name,
        variables,
    )
}

/// Makes what opens a sink of a manifest that may have bindings.
pub fn opener_in(manifest: &Manifest, name: &str, variables: &[(&str, &str)]) -> Result<Box<dyn Opener>, Error> {
    let mut environment = Environment::default();
    for (name, value) in variables {
        environment.variables.insert((*name).to_owned(), (*value).to_owned());
    }
    opener(manifest, manifest.sink(name).expect("the sink"), &environment, "here")
}

/// A delivery with an offset of its own; `event` `None` is `emaj init`.
pub fn delivery(offset: usize, event: Option<Event>, action: Action) -> Delivery {
    Delivery {
        id: format!("id-{offset}"),
        binding: "bound".into(),
        offset: Offset(format!("{offset:012}")),
        time: "2026-01-02T03:04:05.000006Z".into(),
        replay: None,
        retried: false,
        event,
        action,
    }
}

/// A change of `public.<table>`, whose key is `id`.
pub fn row(table: &str, delete: Option<&str>, upsert: Option<&str>) -> Action {
    Action::Row(RowChange {
        table: QualifiedName::new("public", table),
        key: vec!["id".into()],
        delete: delete.map(Arc::from),
        taken: false,
        heir: None,
        upsert: upsert.map(Arc::from),
    })
}

/// A message with this body.
pub fn message(body: &str) -> Action {
    Action::Message(Message {
        address: String::new(),
        key: "k".into(),
        event_type: "t".into(),
        body: body.into(),
        is_cloud_event: true,
        headers: Vec::new(),
    })
}
