//! What can be in a database, crossed with what can happen to it: after each, every table, sequence and definition is as it was
//! at the mark, whoever owns the tables.

mod columns;
mod foreign_keys;
mod keys;
mod partitions;
mod random;
mod sequences;
mod transactions;
mod triggers;
mod truncate;
