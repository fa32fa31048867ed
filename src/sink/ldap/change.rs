//! One change of one entry, as LDAP has them: what is sent, what is printed as LDIF, what a dry run plays through.

/// The values of one attribute.
pub(super) type Values = Vec<Vec<u8>>;

/// A change of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) dn: String,
    pub(super) kind: Kind,
}

/// What is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Add(Vec<(String, Values)>),
    Modify(Vec<Mod>),
    Rename {
        rdn: String,
        /// Whether the old name's values go from the attributes.
        delete_old: bool,
        /// Where it moves to; `None`: it stays below the same entry.
        superior: Option<String>,
    },
    Delete,
}

/// What is done with one attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mod {
    pub(super) name: String,
    pub(super) verb: Verb,
    pub(super) values: Values,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    /// Without values: all of them.
    Delete,
    Replace,
}

impl Mod {
    pub(super) fn new(verb: Verb, name: &str, values: Values) -> Mod {
        Mod {
            name: name.to_owned(),
            verb,
            values,
        }
    }
}

impl Change {
    pub(super) fn new(dn: &str, kind: Kind) -> Change {
        Change {
            dn: dn.to_owned(),
            kind,
        }
    }
}
