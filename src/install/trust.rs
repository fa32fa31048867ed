//! Whose code runs with the rights of emaj's owner: a rollback writes rows, and what hangs on a table runs with it (check constraints,
//! generated columns, expressions of indexes, triggers that are kept). Pure; `plan` and `doctor` tell of it.

use std::collections::BTreeSet;

use crate::catalog::{Server, Table};

/// Returns what emaj's owner may do beyond what each owner of a captured table may do anyway; `None` when that is nothing.
pub(super) fn excess<'t>(server: &Server, tables: impl Iterator<Item = &'t Table>) -> Option<String> {
    let owners: BTreeSet<&str> = tables
        .filter(|table| !server.superusers.contains(&table.owner))
        .map(|table| table.owner.as_str())
        .collect();
    let definer = &server.definer;
    let others: Vec<&str> = owners.iter().copied().filter(|owner| owner != definer).collect();
    if others.is_empty() {
        return None;
    }
    let means = format!(
        "a rollback runs code of whoever owns a captured table ({}) with the rights of {definer}",
        others.join(", ")
    );
    if server.definer_superuser {
        return Some(format!("{means}, a superuser"));
    }
    // With one owner alone, the rights of that one are no excess.
    let beyond: Vec<&str> = server
        .definer_acts_for
        .iter()
        .map(String::as_str)
        .filter(|role| others != [*role])
        .collect();
    (!beyond.is_empty()).then(|| format!("{means}, who may act for {}", beyond.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(definer: &str, superuser: bool, acts_for: &[&str], owners: &[&str]) -> String {
        let server = Server {
            definer: definer.to_owned(),
            definer_superuser: superuser,
            superusers: ["root".to_owned()].into(),
            definer_acts_for: acts_for.iter().map(|role| (*role).to_owned()).collect(),
            ..Server::default()
        };
        let tables: Vec<Table> = owners
            .iter()
            .map(|owner| Table {
                owner: (*owner).to_owned(),
                ..Table::default()
            })
            .collect();
        excess(&server, tables.iter()).unwrap_or_default()
    }

    #[test]
    fn rights_beyond_those_of_the_tables_owners_are_told() {
        assert_eq!(told("shop", false, &[], &["shop", "shop"]), "");
        assert_eq!(told("root", true, &[], &["root"]), "");
        assert_eq!(told("emaj", false, &["shop"], &["shop"]), "");
        assert_eq!(told("emaj", false, &["hr", "root"], &["root", "emaj"]), "");
        let means = "a rollback runs code of whoever owns a captured table (shop) with the rights of";
        assert_eq!(
            told("root", true, &[], &["root", "shop"]),
            format!("{means} root, a superuser")
        );
        assert_eq!(
            told("emaj", false, &["hr", "shop"], &["shop"]),
            format!("{means} emaj, who may act for hr")
        );
        assert_eq!(
            told("emaj", false, &["hr", "shop"], &["emaj", "hr", "shop"]),
            "a rollback runs code of whoever owns a captured table (hr, shop) with the rights of emaj, who may act for hr, shop"
        );
    }
}
