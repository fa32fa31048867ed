//! The LDAP sink, held against a real slapd: through the `Sink` trait alone, without a database.

mod connections;
mod entries;
mod faults;
mod hand;
mod hostile;
mod listing;
mod moves;
mod preview;
mod replay;
mod values;
