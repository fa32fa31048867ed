//! The integration tests, as one binary: each module tells a part of the story, `support` is what they stand on.

mod support;

mod cluster;
mod harness;
mod time_travel_commands;
mod ui;
