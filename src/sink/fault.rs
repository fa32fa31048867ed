//! What went wrong at a sink, and what follows from it: later, never, or down.
//!
//! One table a protocol says which answer causes what; each is here, so that they can be read side by side.

use std::time::Duration;
use std::{fmt, io};

use crate::errors::Kind;
use crate::pg::ServerError;

/// What an error causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This delivery is tried again, with growing pauses; others of its key wait behind it.
    Later,
    /// The place is there, and has no answer to this: [`Verdict::Later`] when it answers others, and [`Verdict::Down`] when it answers none. (That is not
    /// for one connection to say.)
    Silent,
    /// Something that is there may be in the way, and may be going just now: [`Verdict::Later`] the first time, and [`Verdict::Never`] when it is tried again
    /// with nothing beside it.
    Clash,
    /// This delivery will never be taken: its key is set aside, for a person to look at.
    Never,
    /// The place as a whole is out of reach, or refuses the login: everything for it waits.
    Down,
}

/// What went wrong, in words for a person, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub verdict: Verdict,
    pub reason: String,
    /// The place asked for this much time (`Retry-After`).
    pub pause: Option<Duration>,
    /// The place refuses the login: whoever tries often may be locked out there.
    pub is_login: bool,
    /// It is not the place, but something of this kind in the database that is read.
    pub of_source: Option<Kind>,
    /// Another row has a value of this one that only one may have.
    pub is_ambiguous: bool,
}

impl Fault {
    pub(super) fn of(verdict: Verdict, reason: impl fmt::Display) -> Self {
        Fault {
            verdict,
            reason: reason.to_string(),
            pause: None,
            is_login: false,
            of_source: None,
            is_ambiguous: false,
        }
    }

    pub fn later(reason: impl fmt::Display) -> Self {
        Fault::of(Verdict::Later, reason)
    }

    pub fn silent(reason: impl fmt::Display) -> Self {
        Fault::of(Verdict::Silent, reason)
    }

    pub fn never(reason: impl fmt::Display) -> Self {
        Fault::of(Verdict::Never, reason)
    }

    pub fn down(reason: impl fmt::Display) -> Self {
        Fault::of(Verdict::Down, reason)
    }

    pub(super) fn refused_login(reason: impl fmt::Display) -> Self {
        Fault {
            is_login: true,
            ..Fault::down(reason)
        }
    }

    /// Everything waits for something in the database that is read; its kind says what becomes of a courier.
    pub fn of_source(kind: Kind, reason: impl fmt::Display) -> Self {
        Fault {
            of_source: Some(kind),
            ..Fault::down(reason)
        }
    }
}

/// What an HTTP status causes. `Never` is about what this event holds; `Down` is an answer that every other event would get as well,
/// and `Later` what may be about this one or may pass.
const HTTP: &[(u16, Verdict)] = &[
    (400, Verdict::Never),
    (401, Verdict::Down),
    (402, Verdict::Down),
    (403, Verdict::Down),
    // A wrong URL, or a method that the place does not know: nothing that an event could help.
    (404, Verdict::Down),
    (405, Verdict::Down),
    (407, Verdict::Down),
    (408, Verdict::Later),
    (409, Verdict::Later),
    (410, Verdict::Down),
    (413, Verdict::Never),
    (415, Verdict::Never),
    (421, Verdict::Down),
    (422, Verdict::Never),
    (423, Verdict::Later),
    (425, Verdict::Later),
    (426, Verdict::Down),
    // It counts the requests of all events.
    (429, Verdict::Down),
    (431, Verdict::Never),
    (451, Verdict::Down),
    // One event may be what its program stumbles over: the others go on.
    (500, Verdict::Later),
    (501, Verdict::Down),
    (502, Verdict::Down),
    (503, Verdict::Down),
    (504, Verdict::Down),
    (507, Verdict::Down),
    (511, Verdict::Down),
];

/// Returns what an HTTP status that is not 2xx causes. Redirects are not followed: the URL is to be corrected. An unknown
/// refusal of the client's doing is about the event, any other one is tried again.
pub(super) fn http(status: u16) -> Verdict {
    match HTTP.iter().find(|(known, _)| *known == status) {
        Some((_, verdict)) => *verdict,
        None => match status {
            100..400 => Verdict::Down,
            400..500 => Verdict::Never,
            _ => Verdict::Later,
        },
    }
}

/// What JetStream's refusals of a message cause, by `err_code`. (The names are those of the server's list of errors.)
#[cfg(feature = "nats")]
const JETSTREAM: &[(u64, &str, Verdict)] = &[
    (10008, "JSClusterNotAvailErr", Verdict::Down),
    (10009, "JSClusterNotLeaderErr", Verdict::Down),
    (10023, "JSInsufficientResourcesErr", Verdict::Down),
    (10039, "JSNotEnabledForAccountErr", Verdict::Down),
    (10047, "JSStorageResourcesExceededErr", Verdict::Down),
    (10054, "JSStreamMessageExceedsMaximumErr", Verdict::Never),
    (10059, "JSStreamNotFoundErr", Verdict::Down),
    (10060, "JSStreamNotMatchErr", Verdict::Down),
    (10076, "JSNotEnabledErr", Verdict::Down),
    // Full, with `discard: new`; see also `FULL_SUBJECT`.
    (10077, "JSStreamStoreFailedF", Verdict::Down),
    (10097, "JSStreamHeaderExceedsMaximumErr", Verdict::Never),
    (10109, "JSStreamSealedErr", Verdict::Down),
];

/// What the server says, under the code of a full stream, when only the message's subject is full (`discard_new_per_subject`): others are taken.
#[cfg(feature = "nats")]
const FULL_SUBJECT: &str = "maximum messages per subject exceeded";

/// Returns what a refusal of JetStream causes. An unknown one is tried again: that loses nothing, and is seen.
#[cfg(feature = "nats")]
pub(super) fn jetstream(code: u64, said: &str) -> Verdict {
    if said.contains(FULL_SUBJECT) {
        return Verdict::Later;
    }
    let known = JETSTREAM.iter().find(|(known, ..)| *known == code);
    known.map_or(Verdict::Later, |(.., verdict)| *verdict)
}

/// Returns what an error code of Kafka causes.
#[cfg(feature = "kafka")]
pub(super) fn kafka(code: rskafka::client::error::ProtocolError) -> Verdict {
    use rskafka::client::error::ProtocolError as Code;
    match code {
        // About what the record holds.
        Code::MessageTooLarge
        | Code::RecordListTooLarge
        | Code::InvalidRecord
        | Code::InvalidTopicException
        | Code::InvalidTimestamp
        | Code::PolicyViolation => Verdict::Never,
        // Damaged on its way.
        Code::CorruptMessage => Verdict::Later,
        // About the topic, the login, the cluster: others would get the same answer.
        _ => Verdict::Down,
    }
}

/// LDAP result codes that the sink itself acts on.
pub(super) const REFERRAL: u32 = 10;
pub(super) const NO_SUCH_ATTRIBUTE: u32 = 16;
pub(super) const INAPPROPRIATE_MATCHING: u32 = 18;
pub(super) const ATTRIBUTE_OR_VALUE_EXISTS: u32 = 20;
pub(super) const INVALID_ATTRIBUTE_SYNTAX: u32 = 21;
pub(super) const NO_SUCH_OBJECT: u32 = 32;
pub(super) const INVALID_DN_SYNTAX: u32 = 34;
pub(super) const ENTRY_ALREADY_EXISTS: u32 = 68;

/// What LDAP's answers cause (RFC 4511, 4.1.9). `Later` is what may pass by itself or by an administrator's hand: what waits
/// goes on then, in order, and other entries are not held up. `Never` is about what the entry holds: only another row helps.
/// `Down` is an answer that every other entry would get as well.
const LDAP: &[(u32, &str, Verdict)] = &[
    (1, "operationsError", Verdict::Later),
    (2, "protocolError", Verdict::Never),
    (3, "timeLimitExceeded", Verdict::Later),
    (4, "sizeLimitExceeded", Verdict::Later),
    (7, "authMethodNotSupported", Verdict::Down),
    (8, "strongerAuthRequired", Verdict::Down),
    // A replica that takes no writes: `url` leads to the wrong server.
    (REFERRAL, "referral", Verdict::Down),
    (11, "adminLimitExceeded", Verdict::Later),
    (12, "unavailableCriticalExtension", Verdict::Never),
    (13, "confidentialityRequired", Verdict::Down),
    (14, "saslBindInProgress", Verdict::Down),
    (NO_SUCH_ATTRIBUTE, "noSuchAttribute", Verdict::Never),
    (17, "undefinedAttributeType", Verdict::Never),
    (INAPPROPRIATE_MATCHING, "inappropriateMatching", Verdict::Never),
    // Also of a value that must be unique: its last owner may be giving it up over another connection.
    (19, "constraintViolation", Verdict::Clash),
    (ATTRIBUTE_OR_VALUE_EXISTS, "attributeOrValueExists", Verdict::Never),
    (INVALID_ATTRIBUTE_SYNTAX, "invalidAttributeSyntax", Verdict::Never),
    // The entry above is not there yet: its own row may be on the way.
    (NO_SUCH_OBJECT, "noSuchObject", Verdict::Later),
    (33, "aliasProblem", Verdict::Never),
    (INVALID_DN_SYNTAX, "invalidDNSyntax", Verdict::Never),
    (36, "aliasDereferencingProblem", Verdict::Never),
    (48, "inappropriateAuthentication", Verdict::Down),
    (49, "invalidCredentials", Verdict::Down),
    // Rights are often given by subtree and attribute: the others go on.
    (50, "insufficientAccessRights", Verdict::Later),
    (51, "busy", Verdict::Later),
    (52, "unavailable", Verdict::Down),
    // Also what a server says while it is set to read-only.
    (53, "unwillingToPerform", Verdict::Later),
    (54, "loopDetect", Verdict::Never),
    (64, "namingViolation", Verdict::Never),
    (65, "objectClassViolation", Verdict::Never),
    // Entries below are still there: their rows may be going.
    (66, "notAllowedOnNonLeaf", Verdict::Later),
    (67, "notAllowedOnRDN", Verdict::Never),
    // Only when it comes and goes while we look: somebody else is writing it too.
    (ENTRY_ALREADY_EXISTS, "entryAlreadyExists", Verdict::Later),
    (69, "objectClassModsProhibited", Verdict::Never),
    (71, "affectsMultipleDSAs", Verdict::Never),
    (80, "other", Verdict::Later),
    (123, "authorizationDenied", Verdict::Down),
];

/// Returns what an LDAP result code causes, and its name. An unknown one is tried again: that loses nothing, and is seen.
pub(super) fn ldap(code: u32) -> (Verdict, &'static str) {
    match LDAP.iter().find(|(known, ..)| *known == code) {
        Some((_, name, verdict)) => (*verdict, name),
        None => (Verdict::Later, "an unknown code"),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

/// PostgreSQL: the class or the whole SQLSTATE, the first line that fits.
const SQLSTATES: &[(&str, Verdict)] = &[
    // Locks, deadlocks, serialisation, a statement that took too long: the next try may go better.
    ("55P03", Verdict::Later),
    ("57014", Verdict::Later),
    ("40", Verdict::Later),
    // A row refers to one that is not there yet, or stands in the way of one that is still to go.
    ("23503", Verdict::Later),
    ("23505", Verdict::Later),
    ("23P01", Verdict::Later),
    // The value does not fit, whenever it comes.
    ("22", Verdict::Never),
    ("23", Verdict::Never),
    ("44", Verdict::Never),
    // What an extension says of a text that its type cannot read: hstore from 16 on.
    ("42601", Verdict::Never),
    // A value is the name of something that is not there: `regconfig`, `regproc` and others.
    ("42704", Verdict::Never),
    ("42883", Verdict::Never),
    ("54", Verdict::Never),
    // A trigger there refuses.
    ("P0", Verdict::Never),
    // Connection, login, privileges, the wrong database, a standby, no memory or disk, shutting down.
    ("08", Verdict::Down),
    ("0A", Verdict::Down),
    ("25", Verdict::Down),
    ("28", Verdict::Down),
    ("3D", Verdict::Down),
    ("3F", Verdict::Down),
    ("53", Verdict::Down),
    ("55", Verdict::Down),
    ("57", Verdict::Down),
    ("58", Verdict::Down),
    // What an extension written in C says of a value, but also of a row that somebody else writes: the others go on.
    ("XX000", Verdict::Later),
    ("XX", Verdict::Down),
    // Tables and columns are not what they were, or may not be written: all rows of the binding are concerned.
    ("42", Verdict::Down),
];

/// Of those that are `Down`: what is `Down` also when it is said of one row, or by a trigger. (Whoever may write to a table may lack a right within its
/// trigger.)
const OF_THE_PLACE: &[&str] = &["08", "25", "28", "3D", "42501", "53", "57P", "58", "XX"];

/// What is said of a name in a statement, and of one that is a value.
const OF_NAMES: &[&str] = &["3F000", "42P01", "42725"];

impl From<postgres::Error> for Fault {
    /// What an error of a database that a sink leads to causes. (What the database that is read says is judged by [`of_source`].)
    fn from(error: postgres::Error) -> Self {
        match ServerError::of(&error) {
            Some(server) => of_server(server),
            None => Fault::down(chain(&error)),
        }
    }
}

/// What is said of a row is the message, which names the constraint: the detail would be its content.
fn of_server(mut server: ServerError) -> Fault {
    let verdict = match SQLSTATES.iter().find(|(state, _)| server.code.starts_with(state)) {
        // Where it came up (a line of `copy`, a function that a trigger calls) is told of what concerns this row: a statement that is refused as a
        // whole has no such place.
        Some((_, Verdict::Down)) if is_about_a_row(&server) => Verdict::Never,
        Some((_, verdict)) => *verdict,
        None => Verdict::Never,
    };
    if verdict != Verdict::Down {
        server.detail = None;
    }
    Fault {
        is_ambiguous: matches!(&*server.code, "23505" | "23P01"),
        ..Fault::of(verdict, format!("{server} (SQLSTATE {})", server.code))
    }
}

/// Returns what an error of a statement causes that gets rows as JSON: what names something that is not there (`regclass`), without a place in the statement's own
/// text, is a value of a row.
pub(super) fn of_postgres_values(error: postgres::Error) -> Fault {
    let is_of_a_value =
        ServerError::of(&error).is_some_and(|server| server.position.is_none() && OF_NAMES.contains(&&*server.code));
    match (is_of_a_value, Fault::from(error)) {
        (true, fault) => Fault::never(fault),
        (false, fault) => fault,
    }
}

fn is_about_a_row(server: &ServerError) -> bool {
    let has_place = server.context.is_some() || server.inner_statement.is_some();
    has_place && !OF_THE_PLACE.iter().any(|class| server.code.starts_with(class))
}

/// PostgreSQL, when it is asked for more than the rows that are read: what may pass by itself (locks, resources, operator intervention).
const PASSES: &[&str] = &["40", "53", "55", "57"];

/// With these it ends the session.
const ENDS: &[&str] = &["08", "57P"];

/// Returns what an error of the database that is read causes, when it was asked for `what`: a lost connection is nobody's fault at the sink.
pub fn of_source(error: &postgres::Error, what: &str) -> Fault {
    let is_of = |classes: &[&str], server: &postgres::error::DbError| {
        classes.iter().any(|class| server.code().code().starts_with(class))
    };
    let Some(server) = error.as_db_error().filter(|server| !is_of(ENDS, server)) else {
        return Fault::down(format!("{what}: the connection to the database is lost"));
    };
    let verdict = if is_of(PASSES, server) {
        Verdict::Later
    } else {
        Verdict::Never
    };
    Fault::of(verdict, format!("{what}: {}", server.message()))
}

/// Returns what an error of a file causes: whatever it is, it is not about one delivery.
pub(super) fn of_file(doing: impl fmt::Display, error: &io::Error) -> Fault {
    let next = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room there",
        io::ErrorKind::PermissionDenied => "; let the account that runs emaj write there",
        io::ErrorKind::NotFound => "; make the folder",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it for writing",
        io::ErrorKind::BrokenPipe => "; who read it has gone",
        _ => "",
    };
    Fault::down(format!("failed to {doing}: {error}{next}"))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
