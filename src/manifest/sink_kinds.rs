//! What each kind of sink can do: one table, for whoever has a manifest, its raw form, or what the registry knows of one.

use super::delivery::SinkKind;

/// What a kind of sink can do.
#[derive(Debug, PartialEq, Eq)]
pub struct Ability {
    /// The key of the manifest.
    pub word: &'static str,
    /// The kinds of binding that it delivers.
    pub takes: &'static [&'static str],
    /// The kinds of binding of which it can list what is there.
    pub lists: &'static [&'static str],
    /// A row is kept there, found by its key; elsewhere each change of it is told.
    pub keeps_rows: bool,
    /// How far it has come is kept there, with the data.
    pub keeps_position: bool,
    /// The key of a message that says where it goes there.
    pub address: Option<&'static str>,
}

/// A kind that can do as little as any.
const LEAST: Ability = Ability {
    word: "",
    takes: &[],
    lists: &[],
    keeps_rows: false,
    keeps_position: false,
    address: None,
};

const LDAP: Ability = Ability {
    word: "ldap",
    takes: &["entry", "value", "flag", "query"],
    lists: &["entry"],
    ..LEAST
};

const POSTGRES: Ability = Ability {
    word: "postgres",
    takes: &["row"],
    lists: &["row"],
    keeps_rows: true,
    keeps_position: true,
    ..LEAST
};

const WEBHOOK: Ability = Ability {
    word: "webhook",
    takes: &["message"],
    ..LEAST
};

const NATS: Ability = Ability {
    word: "nats",
    takes: &["message"],
    address: Some("subject"),
    ..LEAST
};

const KAFKA: Ability = Ability {
    word: "kafka",
    takes: &["message"],
    address: Some("topic"),
    ..LEAST
};

const FILE: Ability = Ability {
    word: "file",
    takes: &["message", "row"],
    keeps_position: true,
    ..LEAST
};

/// All kinds.
pub(super) const ABILITIES: [&Ability; 6] = [&LDAP, &POSTGRES, &WEBHOOK, &NATS, &KAFKA, &FILE];

impl Ability {
    /// Returns that of the kind which the registry calls so.
    pub fn of(word: &str) -> Option<&'static Ability> {
        ABILITIES.into_iter().find(|ability| ability.word == word)
    }

    /// Tells whether what bindings of a kind make there can be listed.
    pub fn lists(&self, binding_kind: &str) -> bool {
        self.lists.contains(&binding_kind)
    }
}

impl SinkKind {
    /// Returns what it can do.
    pub fn ability(&self) -> &'static Ability {
        match self {
            SinkKind::Ldap(_) => &LDAP,
            SinkKind::Postgres(_) => &POSTGRES,
            SinkKind::Webhook(_) => &WEBHOOK,
            SinkKind::Nats(_) => &NATS,
            SinkKind::Kafka(_) => &KAFKA,
            SinkKind::File(_) => &FILE,
        }
    }

    /// Returns the key of the manifest.
    pub fn word(&self) -> &'static str {
        self.ability().word
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::MANIFEST;
    use super::super::shape::Shape;
    use super::*;

    #[test]
    fn every_kind_of_the_manifest_has_its_line() {
        let Shape::Record(manifest) = &MANIFEST else {
            panic!("a manifest is a record")
        };
        let sinks = manifest.keys.iter().find(|key| key.name == "sinks").unwrap();
        let Shape::Map {
            of: Shape::Record(sink),
            ..
        } = &sinks.shape
        else {
            panic!("a sink is a record")
        };
        assert_eq!(ABILITIES.map(|ability| ability.word), sink.one_of);
        for ability in ABILITIES {
            assert_eq!(Ability::of(ability.word), Some(ability));
            assert!(
                ability.lists.iter().all(|kind| ability.takes.contains(kind)),
                "{ability:?}"
            );
        }
        assert_eq!(Ability::of("pigeon"), None);
    }
}
