//! The LDAP sink, held against a real slapd: through the `Sink` trait alone, without a database.

mod entries;
mod hand;
