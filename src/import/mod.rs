//! Manifests of other programs, turned into ours: text in, text out. Nothing is run, opened or asked; `commands/import` calls it.

pub mod copiste;
