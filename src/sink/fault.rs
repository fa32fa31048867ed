//! What went wrong at a sink, and what follows from it: later, never, or down.
//!
//! One table a protocol says which answer causes what; each is here, so that they can be read side by side.

use std::fmt;

/// What an error causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This delivery is tried again, with growing pauses; others of its key wait behind it.
    Later,
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
}

impl Fault {
    pub fn later(reason: impl fmt::Display) -> Self {
        Fault {
            verdict: Verdict::Later,
            reason: reason.to_string(),
        }
    }

    pub fn never(reason: impl fmt::Display) -> Self {
        Fault {
            verdict: Verdict::Never,
            reason: reason.to_string(),
        }
    }

    pub fn down(reason: impl fmt::Display) -> Self {
        Fault {
            verdict: Verdict::Down,
            reason: reason.to_string(),
        }
    }
}

/// LDAP result codes that the sink itself acts on.
pub(super) const REFERRAL: u32 = 10;
pub(super) const NO_SUCH_ATTRIBUTE: u32 = 16;
pub(super) const INAPPROPRIATE_MATCHING: u32 = 18;
pub(super) const ATTRIBUTE_OR_VALUE_EXISTS: u32 = 20;
pub(super) const NO_SUCH_OBJECT: u32 = 32;
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
    (19, "constraintViolation", Verdict::Never),
    (ATTRIBUTE_OR_VALUE_EXISTS, "attributeOrValueExists", Verdict::Never),
    (21, "invalidAttributeSyntax", Verdict::Never),
    // The entry above is not there yet: its own row may be on the way.
    (NO_SUCH_OBJECT, "noSuchObject", Verdict::Later),
    (33, "aliasProblem", Verdict::Never),
    (34, "invalidDNSyntax", Verdict::Never),
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
