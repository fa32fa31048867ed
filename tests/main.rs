//! The integration tests, as one binary: each module tells a part of the story, `support` is what they stand on.

mod support;

mod cluster;
mod ddl_storm;
mod exact_marks;
mod harness;
mod kills;
mod plan_laws;
mod programs;
mod ui;
