//! What other programs were told, turned into manifests of ours: `copiste` a Python file, `emaj` the configuration of E-Maj. Nothing of it
//! is run; `commands/import` calls it.

pub mod copiste;
pub mod emaj;
mod yaml;
