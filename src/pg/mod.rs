//! Opens PostgreSQL connections, by libpq's rules: the only module that does.
//!
//! [`resolve`] turns what was given (flags, `EMAJ_*`, the manifest, libpq's own environment and files) into [`Settings`];
//! it opens no connection and reads only the files that are named. [`Settings::connect`] opens a [`Session`], which is a
//! `postgres::Client` that remembers how it was opened. Server errors become [`crate::errors::Error`] in `error`.
//! No SQL of the product lives here. `docs/connection.md` is the page for people.

mod attempt;
mod blocker;
mod conninfo;
mod copy;
mod environment;
mod error;
mod given;
mod gone;
mod interrupt;
mod keywords;
mod locking;
mod lossy;
mod passfile;
mod peer_name;
mod pooler;
mod prompt;
mod resolve;
mod search;
mod service;
mod session;
mod settings;
mod signature;
mod span;
mod target;
mod tls;
mod transact;
mod uri;
mod values;
mod verifier;

pub use copy::{Rows, copy_out};
pub use environment::Environment;
pub use error::{Doing, ServerError, classify, classify_in, not_begun};
pub use given::Given;
pub use gone::{is_gone, read_again};
pub use interrupt::{Interrupt, hangup_is_ignored, heeded, stopped};
pub use locking::{Locking, NO_LIMITS, limits, retry_locked, retry_locked_among};
pub use lossy::Lossy;
pub use prompt::Prompt;
pub use resolve::resolve;
pub use session::{Canceller, Notice, Session};
pub(crate) use session::{OWN_PATH, PATH_OF_ROLE};
pub use settings::Settings;
pub use span::Span;
pub use transact::transact;

/// What stands behind the type `t` of a column, in SQL, where its collation `l`, of schema `n`, is not the type's.
pub(crate) const COLLATED: &str =
    "case when l.oid <> t.typcollation then pg_catalog.format(' collate %I.%I', n.nspname, l.collname) else '' end";

/// With these a value has one text, whoever writes it and whoever reads it. (A function that reads what it has written itself, in the same
/// call, needs fewer of them: `row/as_text`. It reads bytes in either form, and money as it has written it.)
const SAME_VALUES: [&str; 8] = [
    "datestyle = 'ISO, MDY'",
    "intervalstyle = 'postgres'",
    "timezone = 'UTC'",
    "extra_float_digits = 1",
    "bytea_output = 'hex'",
    "lc_monetary = 'C'",
    "xmloption = 'content'",
    "array_nulls = on",
];

/// Returns what has a session (`set`) or a transaction (`set local`) give each value one text, whatever the role is used to.
pub(crate) fn same_values(set: &str) -> String {
    SAME_VALUES.map(|setting| format!("{set} {setting};\n")).concat()
}

/// Returns what has a session use the settings of its role again after [`same_values`].
pub(crate) fn values_of_role() -> String {
    SAME_VALUES
        .map(|setting| format!("reset {};\n", setting.split(' ').next().unwrap_or(setting)))
        .concat()
}

/// For a transaction that reads rows as text: the same rows give the same text whoever asks, and rows that a policy would hide are an
/// error, not a gap.
pub(crate) fn same_text() -> String {
    same_values("set local")
        + "set local row_security = off; set local xmlbinary = 'base64'; set local search_path = pg_catalog;
           set local quote_all_identifiers = off"
}
