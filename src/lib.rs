//! emaj: undo, explain, pass on and carry away the data of PostgreSQL tables.
//!
//! The floors, from the top: a module uses the floors below it, never its neighbours, never above.
//!
//! ```text
//! skins      main · cli · ui · commands/ (one verb a file) · operating/ (what looks after a worker)
//! works      install/ · retention · rollback/ · revert · changes/ · past · deliver/ · snap · import/
//! knowledge  catalog/ (what the database is) · journal/ (what emaj wrote) · sink/ (the outer world)
//! pg/        the only module that opens PostgreSQL connections
//! render/    the only module that puts names and values into SQL: templates in, statements out; pure
//! words      names · manifest/ · errors · words · fail_at
//! ```
//!
//! `cluster/` stands beside: a throw-away PostgreSQL for the demo, the tests and the benchmarks. `demo/` tells its story there.

mod catalog;
mod changes;
pub mod cli;
pub mod cluster;
mod commands;
mod deliver;
mod demo;
pub mod errors;
mod fail_at;
mod import;
mod install;
pub mod journal;
pub mod manifest;
pub mod names;
mod operating;
mod past;
pub mod pg;
mod render;
mod retention;
mod revert;
mod rollback;
pub mod sink;
mod snap;
pub mod ui;
mod words;
