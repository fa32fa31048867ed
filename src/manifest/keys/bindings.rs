//! The keys of bindings: what all have, and one record for each kind.

use super::super::kinds::{
    ATTRIBUTE, EXPRESSION, FUNCTION, IDENT, IN_DATABASE, LIMIT, NAME, NAMING, QUERY as QUERY_TEXT, TABLE, TEMPLATE,
    WORD,
};
use super::super::shape::{Key, Record, Shape};
use super::{key, required};

pub(super) static BINDING: Shape = Shape::Record(&Record {
    what: "a binding",
    one_of: &[
        "entry", "value", "flag", "query", "message", "row", "warn", "notify", "sql",
    ],
    keys: &[
        required(
            "table",
            Shape::Text(&TABLE),
            "the table whose changes are meant, `schema.table`",
        ),
        key("to", Shape::Text(&NAME), "the name of a sink"),
        key(
            "when",
            Shape::Text(&EXPRESSION),
            "rows for which it is false are treated as not there",
        ),
        key(
            "events",
            Shape::List {
                of: &Shape::Word(&["insert", "update", "delete"]),
                least: 1,
            },
            "which changes, all if not given",
        ),
        key(
            "columns",
            Shape::List {
                of: &Shape::Text(&IDENT),
                least: 1,
            },
            "only changes of these columns count",
        ),
        key(
            "max_deletes",
            Shape::Either(&[Shape::Integer { min: 0, max: i64::MAX }, Shape::Text(&LIMIT)]),
            "stop when one run would delete more, `100` or `5%`",
        ),
        key("entry", Shape::Record(&ENTRY), "the row is an entry of a directory"),
        key(
            "value",
            Shape::Record(&VALUE),
            "the row is one value of an attribute of an entry",
        ),
        key(
            "flag",
            Shape::Record(&FLAG),
            "a value that stands while a row refers to the entry",
        ),
        key("query", Shape::Record(&QUERY), "an attribute is the result of a query"),
        key(
            "message",
            Shape::Record(&MESSAGE),
            "a message to a broker, a web service or a file",
        ),
        key("row", Shape::Record(&ROW), "a row of another table"),
        key("warn", Shape::Record(&WARN), "a warning inside the transaction"),
        key("notify", Shape::Record(&NOTIFY), "`pg_notify` inside the transaction"),
        key(
            "sql",
            Shape::Record(&SQL),
            "a call of a function inside the transaction",
        ),
    ],
});

const TEMPLATE_TEXT: Shape = Shape::Text(&TEMPLATE);
/// In which values are escaped.
const NAMING_TEXT: Shape = Shape::Text(&NAMING);
const MODE: Key = key(
    "mode",
    Shape::Word(&["force", "keep", "merge"]),
    "what happens to values that are there, `force` if not given",
);
const DN: Key = key("dn", NAMING_TEXT, "the entry's name");
const SEARCH: Key = key("search", Shape::Record(&SEARCH_RECORD), "how to find the entry");
const ENTRY_OF: Key = key(
    "entry_of",
    Shape::Record(&ENTRY_OF_RECORD),
    "whose entry it is: the one that another binding makes of a row",
);
const ATTRIBUTE_KEY: Key = required("attribute", Shape::Text(&ATTRIBUTE), "the attribute");
const VALUE_KEY: Key = required("value", TEMPLATE_TEXT, "the value, a template");

static ENTRY: Record = Record {
    what: "an entry",
    one_of: &[],
    keys: &[
        required(
            "dn",
            NAMING_TEXT,
            "the entry's name, `uid={{ row.login }},ou=people,dc=example,dc=org`",
        ),
        required(
            "object_classes",
            Shape::List {
                of: &Shape::Text(&ATTRIBUTE),
                least: 1,
            },
            "the classes of the entry",
        ),
        required(
            "attributes",
            Shape::Map {
                name: &ATTRIBUTE,
                of: &ATTRIBUTE_VALUE,
                least: 0,
            },
            "the attributes and their templates",
        ),
    ],
};

static ATTRIBUTE_VALUE: Shape = Shape::Either(&[TEMPLATE_TEXT, TEMPLATES, Shape::Record(&ATTRIBUTE_RECORD)]);
const TEMPLATES: Shape = Shape::List {
    of: &TEMPLATE_TEXT,
    least: 1,
};

static ATTRIBUTE_RECORD: Record = Record {
    what: "an attribute",
    one_of: &["template", "query"],
    keys: &[
        key(
            "template",
            Shape::Either(&[TEMPLATE_TEXT, TEMPLATES]),
            "one template, or a list with one for each value",
        ),
        key("query", Shape::Text(&QUERY_TEXT), "a query; one row a value"),
        MODE,
    ],
};

static SEARCH_RECORD: Record = Record {
    what: "a search",
    one_of: &[],
    keys: &[
        required("base", NAMING_TEXT, "where to search"),
        required(
            "filter",
            NAMING_TEXT,
            "what to search, `(employeeNumber={{ row.person_id }})`",
        ),
        key(
            "scope",
            Shape::Word(&["base", "one", "sub"]),
            "how deep, `sub` if not given",
        ),
    ],
};

static ENTRY_OF_RECORD: Record = Record {
    what: "the row of an entry",
    one_of: &[],
    keys: &[
        required(
            "binding",
            Shape::Text(&NAME),
            "the binding that makes the entries, an `entry` for the same sink",
        ),
        required(
            "key",
            Shape::Map {
                name: &IDENT,
                of: &Shape::Text(&IDENT),
                least: 1,
            },
            "the primary key of its table, each column with the column of this binding's table that holds its value",
        ),
    ],
};

static VALUE: Record = Record {
    what: "a value",
    one_of: &["dn", "search", "entry_of"],
    keys: &[DN, SEARCH, ENTRY_OF, ATTRIBUTE_KEY, VALUE_KEY],
};

static FLAG: Record = Record {
    what: "a flag",
    one_of: &["dn", "search", "entry_of"],
    keys: &[DN, SEARCH, ENTRY_OF, ATTRIBUTE_KEY, VALUE_KEY],
};

static QUERY: Record = Record {
    what: "an attribute from a query",
    one_of: &["dn", "search", "entry_of"],
    keys: &[
        DN,
        SEARCH,
        ENTRY_OF,
        ATTRIBUTE_KEY,
        required(
            "query",
            Shape::Text(&QUERY_TEXT),
            "the query; one row a value, the values of its `{{ … }}` are parameters",
        ),
        MODE,
    ],
};

static MESSAGE: Record = Record {
    what: "a message",
    one_of: &[],
    keys: &[
        key("subject", NAMING_TEXT, "the subject (NATS)"),
        key("topic", TEMPLATE_TEXT, "the topic (Kafka)"),
        key(
            "key",
            TEMPLATE_TEXT,
            "messages of one key keep their order; the primary key if not given",
        ),
        key("type", TEMPLATE_TEXT, "the CloudEvents type"),
        key("body", TEMPLATE_TEXT, "the body; CloudEvents with the row if not given"),
        key(
            "headers",
            Shape::Map {
                name: &WORD,
                of: &TEMPLATE_TEXT,
                least: 1,
            },
            "headers of the message",
        ),
    ],
};

static ROW: Record = Record {
    what: "a row",
    one_of: &[],
    keys: &[
        key(
            "table",
            Shape::Text(&TABLE),
            "the other table; the same name if not given",
        ),
        key(
            "key",
            Shape::List {
                of: &Shape::Text(&IDENT),
                least: 1,
            },
            "the other table's key columns; the same as here if not given",
        ),
        key(
            "columns",
            Shape::Map {
                name: &IDENT,
                of: &Shape::Text(&EXPRESSION),
                least: 1,
            },
            "the other table's columns, each with an expression; the same columns if not given",
        ),
    ],
};

static WARN: Record = Record {
    what: "a warning",
    one_of: &[],
    keys: &[required(
        "message",
        Shape::Text(&IN_DATABASE),
        "the text of the warning",
    )],
};

static NOTIFY: Record = Record {
    what: "a notification",
    one_of: &[],
    keys: &[
        required("channel", Shape::Text(&NAME), "the channel"),
        key("payload", Shape::Text(&IN_DATABASE), "the payload; empty if not given"),
    ],
};

static SQL: Record = Record {
    what: "a call",
    one_of: &[],
    keys: &[
        required("function", Shape::Text(&FUNCTION), "the function, `schema.function`"),
        key(
            "arguments",
            Shape::List {
                of: &Shape::Text(&IN_DATABASE),
                least: 0,
            },
            "its arguments, each a text; none if not given",
        ),
    ],
};
