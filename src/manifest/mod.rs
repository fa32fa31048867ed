//! The YAML manifest, version 1: read, checked, merged, with a place for everything that can be wrong.
//!
//! The road: `files` finds them → `yaml` makes trees → `shape` holds them against `keys` → `merge` makes one
//! `RawManifest` → `checks` ties the places together → `build` makes the [`Manifest`]. All problems of all files come
//! back at once as [`Diagnostic`]s. `schema` prints the same `keys` as JSON Schema. `commands` call [`load`].

mod delivery;
mod diagnostic;
mod in_database;
mod kinds;
mod model;
mod shape;
mod source;
mod text;
mod yaml;

pub use delivery::*;
pub use diagnostic::{Diagnostic, Diagnostics, Related, Severity};
pub use in_database::{InDatabasePart, InDatabaseText};
pub use model::*;
pub use source::{Located, Place, Source};
pub use text::{Env, SecretText, Text};
