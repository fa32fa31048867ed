//! The integration tests, as one binary: each module tells a part of the story, `support` is what they stand on.

mod support;

mod actions;
mod bindings_install;
mod cluster;
mod connection;
mod ddl_storm;
mod delivery;
mod demo;
mod documented;
mod exact_marks;
mod file_sink;
mod gallery;
mod harness;
mod help;
mod kafka_sink;
mod kills;
mod ldap_sink;
mod leaving;
mod log_readers;
mod look_commands;
mod manifest;
mod manifest_commands;
mod nats_sink;
mod pagila;
mod plan_laws;
mod postgres_sink;
mod programs;
mod refusals;
mod retention;
mod rights;
mod rollback_matrix;
mod sql_api;
mod time_travel_commands;
mod ui;
mod webhook_sink;
