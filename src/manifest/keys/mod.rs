//! The keys of manifest version 1: the top, the database, groups and table options.
//!
//! Sinks and bindings have their own files. A key added here is known to the parser, to "did you mean" and to the
//! JSON Schema; `build` must read it and `docs/manifest.md` describe it (a test looks).

mod bindings;
mod sinks;

use super::kinds::{COMMENT, CONTEXT, GROUP, IDENT, INTERVAL, NAME, PATTERN, PORT, POSTGRES_URI, ROLE, SECRET, SIZE};
use super::kinds::{SECONDS, SESSION_ATTRS, SETTING, SSLMODE, TABLE};
use super::shape::{Key, Record, Shape};

const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key {
        name,
        shape,
        required: false,
        doc,
    }
}

const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key {
        name,
        shape,
        required: true,
        doc,
    }
}

const SETTING_TEXT: Shape = Shape::Text(&SETTING);
const SECRET_TEXT: Shape = Shape::Text(&SECRET);

/// A whole manifest file.
pub(super) static MANIFEST: Shape = Shape::Record(&Record {
    what: "a manifest",
    one_of: &[],
    keys: &[
        required(
            "version",
            Shape::Integer { min: 1, max: 1 },
            "the version of the manifest's format, `1`",
        ),
        key(
            "name",
            Shape::Text(&NAME),
            "who owns the groups in the database; the file's name without `.yaml` if not given",
        ),
        key(
            "database",
            Shape::Record(&DATABASE),
            "how to reach the database; what is missing comes from libpq's environment",
        ),
        key(
            "schema",
            Shape::Text(&IDENT),
            "the schema where emaj keeps its own objects, `emaj` if not given",
        ),
        key(
            "roles",
            Shape::Record(&ROLES),
            "the roles that may use emaj in the database",
        ),
        key(
            "history",
            Shape::Record(&HISTORY),
            "what becomes of the history of operations",
        ),
        key(
            "groups",
            Shape::Map {
                name: &GROUP,
                of: &GROUP_SHAPE,
                least: 1,
            },
            "tables that are marked and rolled back together",
        ),
        key(
            "sinks",
            Shape::Map {
                name: &NAME,
                of: &sinks::SINK,
                least: 1,
            },
            "places outside that changes are delivered to",
        ),
        key(
            "bindings",
            Shape::Map {
                name: &NAME,
                of: &bindings::BINDING,
                least: 1,
            },
            "what becomes of the changes of one table",
        ),
    ],
});

/// The settings of libpq that a manifest may hold, besides `uri` and `password`.
pub(super) const DATABASE_SETTINGS: [&str; 15] = [
    "service",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "passfile",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "connect_timeout",
    "options",
    "application_name",
    "target_session_attrs",
];

pub(super) static DATABASE: Record = Record {
    what: "a database",
    one_of: &[],
    keys: &[
        key("uri", Shape::Text(&POSTGRES_URI), "a whole `postgresql://` URI"),
        key(
            "service",
            SETTING_TEXT,
            "a section of the service file `pg_service.conf`",
        ),
        key("host", SETTING_TEXT, "the server's name, or the folder of its socket"),
        key(
            "hostaddr",
            SETTING_TEXT,
            "the server's address, when the name is not to be looked up",
        ),
        key(
            "port",
            Shape::Either(&[Shape::Integer { min: 1, max: 65535 }, Shape::Text(&PORT)]),
            "the server's port",
        ),
        key("dbname", SETTING_TEXT, "the database"),
        key("user", SETTING_TEXT, "the role to log in as"),
        key("password", SECRET_TEXT, "the password, as a reference"),
        key("passfile", SETTING_TEXT, "a password file instead of `~/.pgpass`"),
        key("sslmode", Shape::Text(&SSLMODE), "how much TLS must protect"),
        key(
            "sslrootcert",
            SETTING_TEXT,
            "the file with the authorities that are trusted, or `system`",
        ),
        key("sslcert", SETTING_TEXT, "the file with the client's certificate"),
        key("sslkey", SETTING_TEXT, "the file with the client's key"),
        key(
            "connect_timeout",
            Shape::Either(&[Shape::Integer { min: 0, max: 86400 }, Shape::Text(&SECONDS)]),
            "seconds until a server counts as unreachable",
        ),
        key("options", SETTING_TEXT, "options for the server, `-c name=value`"),
        key(
            "application_name",
            SETTING_TEXT,
            "the name that `pg_stat_activity` shows",
        ),
        key(
            "target_session_attrs",
            Shape::Text(&SESSION_ATTRS),
            "which of several servers will do",
        ),
    ],
};

static ROLES: Record = Record {
    what: "the roles",
    one_of: &[],
    keys: &[
        key(
            "admin",
            Shape::Either(&[Shape::Text(&ROLE), Shape::Null]),
            "the role that may do all but install and deliver, `emaj_adm` if not given; `null`: none",
        ),
        key(
            "viewer",
            Shape::Either(&[Shape::Text(&ROLE), Shape::Null]),
            "the role that may look, `emaj_viewer` if not given; `null`: none",
        ),
    ],
};

static HISTORY: Record = Record {
    what: "the history",
    one_of: &[],
    keys: &[key(
        "retention",
        Shape::Text(&INTERVAL),
        "how long rows of `emaj_hist` stay; for ever if not given",
    )],
};

static GROUP_SHAPE: Shape = Shape::Record(&Record {
    what: "a group",
    one_of: &[],
    keys: &[
        required(
            "tables",
            Shape::List {
                of: &Shape::Text(&PATTERN),
                least: 1,
            },
            "names and patterns; `!` takes away",
        ),
        key(
            "sequences",
            Shape::Either(&[
                Shape::Word(&["owned", "all", "none"]),
                Shape::List {
                    of: &Shape::Text(&PATTERN),
                    least: 1,
                },
            ]),
            "which sequences go along, `owned` if not given",
        ),
        key(
            "state",
            Shape::Word(&["logging", "idle"]),
            "whether changes are written down, `logging` if not given",
        ),
        key("rollback", Shape::Bool, "`false`: audit only, no primary key needed"),
        key("comment", Shape::Text(&COMMENT), "a text that is shown with the group"),
        key(
            "context",
            Shape::List {
                of: &Shape::Text(&CONTEXT),
                least: 1,
            },
            "extra columns of the log that tell where a change came from",
        ),
        key(
            "retention",
            Shape::Text(&INTERVAL),
            "how long log rows stay when no mark needs them",
        ),
        key(
            "keep_marks",
            Shape::Either(&[Shape::Integer { min: 1, max: 1_000_000 }, Shape::Text(&INTERVAL)]),
            "how many marks stay, or how old they get, `30 days`; all if not given",
        ),
        key(
            "max_size",
            Shape::Text(&SIZE),
            "how large the logs may be before the oldest marks go, `10 GB`",
        ),
        key(
            "table_options",
            Shape::Map {
                name: &TABLE,
                of: &TABLE_OPTIONS,
                least: 1,
            },
            "what is different for single tables",
        ),
    ],
});

static TABLE_OPTIONS: Shape = Shape::Record(&Record {
    what: "a table's options",
    one_of: &[],
    keys: &[
        key(
            "capture",
            Shape::Word(&["auto", "statement", "row"]),
            "how changes are caught, `auto` if not given",
        ),
        key(
            "priority",
            Shape::Integer {
                min: -2_147_483_648,
                max: 2_147_483_647,
            },
            "smaller goes first in a rollback",
        ),
        key(
            "keep_triggers",
            Shape::List {
                of: &Shape::Text(&IDENT),
                least: 1,
            },
            "triggers that fire during a rollback too",
        ),
        key(
            "guard",
            Shape::Bool,
            "`false`: nothing stops a `drop column` of a captured column",
        ),
    ],
});
