//! The integration tests, as one binary: each module tells a part of the story, `support` is what they stand on.

mod support;

mod cluster;
mod harness;
mod pagila;
mod refusals;
mod rights;
mod rollback_matrix;
mod sql_api;
mod ui;
