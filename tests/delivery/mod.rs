//! Stories of delivery: what an application does, and what arrives.

mod file;

use crate::support::{Database, Emaj, emaj};

/// Writes the manifest and installs it.
pub fn install(db: &Database, manifest: &str) {
    std::fs::write(db.dir().join("emaj.yaml"), manifest).expect("the test's own folder");
    emaj(db).args(["install", "emaj.yaml"]).run().ok();
}

/// Prepares `emaj run --until-empty`.
pub fn drain(db: &Database) -> Emaj {
    emaj(db).args(["run", "emaj.yaml", "--until-empty"])
}
