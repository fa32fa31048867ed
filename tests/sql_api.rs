//! The SQL interface, for batch jobs that only have a connection: E-Maj 0.8.0's names, arguments and return values, over plain psql.

use crate::support::story::stories;

/// E-Maj 0.8.0's functions: arguments in order, and what they return.
const FUNCTIONS: &[(&str, &[&str], &str)] = &[
    ("emaj_start_group", &["text", "text"], "integer"),
    ("emaj_stop_group", &["text"], "integer"),
    ("emaj_set_mark_group", &["text", "text"], "integer"),
    ("emaj_rollback_group", &["text", "text"], "integer"),
    ("emaj_rollback_and_stop_group", &["text", "text"], "integer"),
    ("emaj_reset_group", &["text"], "integer"),
    ("emaj_delete_mark_group", &["text", "text"], "SEE_SEED"),
    ("emaj_rename_mark_group", &["text", "text", "text"], "void"),
    ("emaj_log_stat_group", &["text", "text", "text"], "SETOF"),
    ("emaj_detailed_log_stat_group", &["text", "text", "text"], "SETOF"),
    ("emaj_snap_group", &["text", "text"], "integer"),
    ("emaj_verify_all", &[], "SETOF text"),
    ("emaj_drop_group", &["text"], "integer"),
    ("emaj_force_drop_group", &["text"], "integer"),
];
