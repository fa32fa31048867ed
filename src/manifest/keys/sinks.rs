//! The keys of sinks: one record for each kind.

use super::super::kinds::{BROKER, HEADER, HTTP_URL, INTERVAL, LDAP_URL, NATS_URL, WORD};
use super::super::shape::{Key, Record, Shape};
use super::{DATABASE, SECRET_TEXT, SETTING_TEXT, key, required};

pub(super) static SINK: Shape = Shape::Record(&Record {
    what: "a sink",
    one_of: &["ldap", "postgres", "webhook", "nats", "kafka", "file"],
    keys: &[
        key("ldap", Shape::Record(&LDAP), "a directory"),
        key("postgres", Shape::Record(&DATABASE), "another database"),
        key("webhook", Shape::Record(&WEBHOOK), "a web service"),
        key("nats", Shape::Record(&NATS), "a NATS server with JetStream"),
        key("kafka", Shape::Record(&KAFKA), "a Kafka cluster"),
        key("file", Shape::Record(&FILE), "a file of JSON lines"),
        key(
            "max_lag",
            Shape::Text(&INTERVAL),
            "how long the log waits for a sink that does not move; for ever if not given",
        ),
    ],
});

const CA_FILE: Key = key(
    "ca_file",
    SETTING_TEXT,
    "the file with the authorities that are trusted",
);
const TIMEOUT: Key = key(
    "timeout",
    Shape::Integer { min: 1, max: 3600 },
    "seconds until an answer counts as missing, 30 if not given",
);
const CONNECTIONS: Key = key(
    "connections",
    Shape::Integer { min: 1, max: 64 },
    "how many connections at most, 4 if not given",
);

static LDAP: Record = Record {
    what: "an LDAP sink",
    one_of: &[],
    keys: &[
        required("url", Shape::Text(&LDAP_URL), "the server, `ldap://ldap.example.org`"),
        key(
            "bind_dn",
            SETTING_TEXT,
            "the entry to log in as; anonymous if not given",
        ),
        key("password", SECRET_TEXT, "its password, as a reference"),
        key(
            "sasl",
            Shape::Word(&["external"]),
            "log in by certificate or socket instead",
        ),
        key("starttls", Shape::Bool, "`true`: turn to TLS before logging in"),
        CA_FILE,
        key("cert_file", SETTING_TEXT, "the client's certificate"),
        key("key_file", SETTING_TEXT, "the client's key"),
        CONNECTIONS,
        TIMEOUT,
        key(
            "page_size",
            Shape::Integer { min: 1, max: 100_000 },
            "entries in one page of a search, 500 if not given",
        ),
    ],
};

static WEBHOOK: Record = Record {
    what: "a webhook sink",
    one_of: &[],
    keys: &[
        required(
            "url",
            Shape::Text(&HTTP_URL),
            "where to send, `https://example.org/hook`",
        ),
        key(
            "secret",
            SECRET_TEXT,
            "the key that signs each request (Standard Webhooks), as a reference",
        ),
        key(
            "headers",
            Shape::Map {
                name: &WORD,
                of: &Shape::Text(&HEADER),
                least: 1,
            },
            "headers of each request",
        ),
        CA_FILE,
        key(
            "batch",
            Shape::Integer { min: 1, max: 1000 },
            "events in one request at most, 1 if not given",
        ),
        CONNECTIONS,
        TIMEOUT,
    ],
};

static NATS: Record = Record {
    what: "a NATS sink",
    one_of: &[],
    keys: &[
        required(
            "url",
            Shape::Text(&NATS_URL),
            "the server, `nats://nats.example.org:4222`",
        ),
        key("user", SETTING_TEXT, "the user to log in as"),
        key("password", SECRET_TEXT, "the password, as a reference"),
        key(
            "token",
            SECRET_TEXT,
            "a token instead of user and password, as a reference",
        ),
        key(
            "credentials_file",
            SETTING_TEXT,
            "a `.creds` file instead of user and password",
        ),
        CA_FILE,
        key(
            "stream",
            SETTING_TEXT,
            "the JetStream stream that must hold the subjects",
        ),
        TIMEOUT,
    ],
};

static KAFKA: Record = Record {
    what: "a Kafka sink",
    one_of: &[],
    keys: &[
        required(
            "brokers",
            Shape::List {
                of: &Shape::Text(&BROKER),
                least: 1,
            },
            "where to begin, a list of `host:port`",
        ),
        key("user", SETTING_TEXT, "the user to log in as (SASL PLAIN)"),
        key("password", SECRET_TEXT, "the password, as a reference"),
        key("tls", Shape::Bool, "`true`: connect with TLS"),
        CA_FILE,
        key("client_id", SETTING_TEXT, "the name that the broker's log shows"),
        TIMEOUT,
    ],
};

static FILE: Record = Record {
    what: "a file sink",
    one_of: &[],
    keys: &[
        required("path", SETTING_TEXT, "the file; `-` is stdout"),
        key(
            "rotate_mib",
            Shape::Integer { min: 1, max: 1_048_576 },
            "begin a new file at this size in MiB; never if not given",
        ),
        key(
            "keep",
            Shape::Integer { min: 0, max: 10_000 },
            "how many old files stay, 10 if not given",
        ),
    ],
};
