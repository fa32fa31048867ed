//! Values of an attribute come and go, one by one or all from a query.
//!
//! A single value is sent without looking first: a group of five thousand members is not read to add one. That it is there already, or
//! gone already, is an answer like any other.

use super::super::fault::{self, Fault};
use super::super::{Attribute, EntryTarget, ValueChange};
use super::change::{Change, Kind, Mod, Values, Verb};
use super::diff::{Care, Wanted, difference};
use super::directory::{Directory, MOST, Trouble};
use super::dn::Dn;
use super::entry::{bytes, identity};
use super::schema::Rule;
use super::work::Work;
use crate::manifest::Mode;

/// Writes the value that comes, then takes away the one that goes. Returns whether something was written.
pub(super) async fn change<D: Directory>(work: &Work<'_, D>, change: &ValueChange) -> Result<bool, Fault> {
    let name = change.attribute.as_str();
    let add = match &change.add {
        None => None,
        Some((target, value)) => match resolve(work, target).await? {
            Some(dn) => Some((dn, value.as_bytes())),
            None => return Err(not_there(target)),
        },
    };
    let remove = match &change.remove {
        None => None,
        Some((target, value)) => resolve(work, target).await?.map(|dn| (dn, value.as_bytes())),
    };
    let instead = change.instead.as_deref().map(str::as_bytes);
    let renamed = match &change.renamed {
        None => None,
        Some((target, value)) => resolve(work, target).await?.map(|dn| (dn, value.as_bytes())),
    };
    // (What comes there stays.)
    let renamed = renamed.filter(|(dn, _)| !add.as_ref().is_some_and(|(to, _)| same_entry(work, to, dn)));
    let is_awaited = change.remove.as_ref().is_some_and(|(target, _)| is_of_row(target));
    let written = exchanged(work, name, add, remove, instead, is_awaited).await?;
    match renamed {
        Some((dn, value)) => Ok(remove_value(work, &dn, name, value).await? || written),
        None => Ok(written),
    }
}

/// Writes a value, and takes one away, where they are. `is_awaited`: if the entry of what goes is not there, it is to come.
async fn exchanged<D: Directory>(
    work: &Work<'_, D>,
    name: &str,
    add: Option<(String, &[u8])>,
    remove: Option<(String, &[u8])>,
    instead: Option<&[u8]>,
    is_awaited: bool,
) -> Result<bool, Fault> {
    match (add, remove) {
        (Some((dn, new)), Some((from, old))) if instead.is_none() && same_entry(work, &dn, &from) => match old == new {
            true => add_value(work, &dn, name, new).await,
            false => exchange(work, &dn, name, old, new).await,
        },
        (add, remove) => {
            let mut written = false;
            if let Some((dn, value)) = add {
                written |= add_value(work, &dn, name, value).await?;
            }
            if let Some((dn, value)) = remove {
                let is_gone = match instead {
                    Some(other) => respell(work, &dn, name, value, other).await?,
                    None => remove_value(work, &dn, name, value).await?,
                };
                if !is_gone && is_awaited {
                    must_be_there(work, &dn).await?;
                }
                written |= is_gone;
            }
            Ok(written)
        }
    }
}

/// Makes the values of an attribute what a query gave, in each of the entries.
pub(super) async fn replace_all<D: Directory>(
    work: &Work<'_, D>,
    all: &[(EntryTarget, Attribute)],
) -> Result<bool, Fault> {
    let mut is_written = false;
    for (target, attribute) in all {
        is_written |= replace(work, target, attribute).await?;
    }
    Ok(is_written)
}

/// Makes the values of one attribute what a query gave. Returns whether something was written.
async fn replace<D: Directory>(work: &Work<'_, D>, target: &EntryTarget, attribute: &Attribute) -> Result<bool, Fault> {
    let dn = resolve(work, target).await?;
    let wanted = wanted(work, dn.as_deref(), attribute.name.as_str());
    let wanted = Wanted {
        mode: attribute.mode,
        values: bytes(&attribute.values),
        ..wanted
    };
    match dn {
        Some(dn) => match converge(work, &dn, &wanted).await? {
            Some(written) => Ok(written),
            None if attribute.values.is_empty() && !is_of_row(target) => Ok(false),
            None => Err(not_there(target)),
        },
        // Nothing is to be at an entry that is not there: so it is.
        None if attribute.values.is_empty() => Ok(false),
        None => Err(not_there(target)),
    }
}

/// Finds the entry that is meant; `None`: there is none.
async fn resolve<D: Directory>(work: &Work<'_, D>, target: &EntryTarget) -> Result<Option<String>, Fault> {
    let (base, filter, scope) = match target {
        EntryTarget::Dn(dn) => return Ok(Some(dn.clone())),
        EntryTarget::OfRow { dn, .. } => return Ok(dn.clone()),
        EntryTarget::Search { base, filter, scope } => (base, filter, *scope),
    };
    let found = work.directory.find(base, scope, filter).await;
    let mut found = found.map_err(|trouble| trouble.into_fault(&format!("search below `{base}`")))?;
    match found.len() {
        0 | 1 => Ok(found.pop()),
        count => {
            let or_more = if count == MOST { " or more" } else { "" };
            Err(Fault::never(format!(
                "the search below `{base}` finds {count}{or_more} entries, expected exactly one"
            )))
        }
    }
}

async fn add_value<D: Directory>(work: &Work<'_, D>, dn: &str, name: &str, value: &[u8]) -> Result<bool, Fault> {
    let result = modify(work, dn, vec![Mod::new(Verb::Add, name, vec![value.to_vec()])]).await;
    match code(&result) {
        None => written(result, dn),
        Some(fault::ATTRIBUTE_OR_VALUE_EXISTS) => Ok(false),
        Some(fault::NO_SUCH_OBJECT) => Err(not_there_yet(dn)),
        Some(fault::INAPPROPRIATE_MATCHING) => by_reading(work, dn, name, Some(value), None).await,
        Some(_) => written(result, dn),
    }
}

async fn remove_value<D: Directory>(work: &Work<'_, D>, dn: &str, name: &str, value: &[u8]) -> Result<bool, Fault> {
    let result = modify(work, dn, vec![Mod::new(Verb::Delete, name, vec![value.to_vec()])]).await;
    match code(&result) {
        None => written(result, dn),
        // What cannot be there is not there: neither such a value nor such an entry.
        Some(
            fault::NO_SUCH_ATTRIBUTE
            | fault::NO_SUCH_OBJECT
            | fault::INVALID_ATTRIBUTE_SYNTAX
            | fault::INVALID_DN_SYNTAX,
        ) => Ok(false),
        Some(fault::INAPPROPRIATE_MATCHING) => by_reading(work, dn, name, None, Some(value)).await,
        Some(_) => written(result, dn),
    }
}

/// Puts one value in the place of another, in one operation: nobody sees both, and a group is never without member.
async fn exchange<D: Directory>(
    work: &Work<'_, D>,
    dn: &str,
    name: &str,
    old: &[u8],
    new: &[u8],
) -> Result<bool, Fault> {
    // What goes first: the two may be one to the server.
    let mods = vec![
        Mod::new(Verb::Delete, name, vec![old.to_vec()]),
        Mod::new(Verb::Add, name, vec![new.to_vec()]),
    ];
    let result = modify(work, dn, mods).await;
    match code(&result) {
        Some(fault::NO_SUCH_ATTRIBUTE) => add_value(work, dn, name, new).await,
        Some(fault::ATTRIBUTE_OR_VALUE_EXISTS) => remove_value(work, dn, name, old).await,
        // One of the two is no value of such an attribute.
        Some(fault::INVALID_ATTRIBUTE_SYNTAX) => {
            let added = add_value(work, dn, name, new).await?;
            Ok(remove_value(work, dn, name, old).await? || added)
        }
        Some(fault::NO_SUCH_OBJECT) => Err(not_there_yet(dn)),
        Some(fault::INAPPROPRIATE_MATCHING) => by_reading(work, dn, name, Some(new), Some(old)).await,
        _ => written(result, dn),
    }
}

/// Takes a value away, and leaves another one that may be the same to the server: then it is spelt like the other one now.
async fn respell<D: Directory>(
    work: &Work<'_, D>,
    dn: &str,
    name: &str,
    value: &[u8],
    other: &[u8],
) -> Result<bool, Fault> {
    match exchange(work, dn, name, value, other).await {
        // The row that gives the other one waits for the entry itself.
        Err(fault) if fault == not_there_yet(dn) => Ok(false),
        result => result,
    }
}

/// The way for attributes whose single values cannot be named to the server.
async fn by_reading<D: Directory>(
    work: &Work<'_, D>,
    dn: &str,
    name: &str,
    add: Option<&[u8]>,
    remove: Option<&[u8]>,
) -> Result<bool, Fault> {
    let list = |value: Option<&[u8]>| value.map(<[u8]>::to_vec).into_iter().collect::<Values>();
    let wanted = Wanted {
        rule: Rule::None,
        values: list(add),
        ours: list(remove),
        ..wanted(work, Some(dn), name)
    };
    match converge(work, dn, &wanted).await? {
        Some(written) => Ok(written),
        None if add.is_none() => Ok(false),
        None => Err(not_there_yet(dn)),
    }
}

/// Reads the attribute and writes what differs; `None`: there is no such entry.
async fn converge<D: Directory>(work: &Work<'_, D>, dn: &str, wanted: &Wanted) -> Result<Option<bool>, Fault> {
    let mut care = Care::Plain;
    loop {
        let found = work.directory.read(dn, std::slice::from_ref(&wanted.name)).await;
        let Some(found) = found.map_err(|trouble| trouble.into_fault(dn))? else {
            return Ok(None);
        };
        let mods = difference(wanted, found.values(&wanted.key), care);
        if mods.is_empty() {
            return Ok(Some(false));
        }
        let result = modify(work, dn, mods).await;
        match code(&result) {
            Some(fault::NO_SUCH_OBJECT) => return Ok(None),
            Some(code) if care == Care::Plain && work.is_other_mind(code) => care = Care::Whole,
            _ => return written(result, dn).map(Some),
        }
    }
}

fn wanted<D: Directory>(work: &Work<'_, D>, dn: Option<&str>, name: &str) -> Wanted {
    let key = work.schema.name(name);
    let rdn = dn.and_then(|dn| Dn::parse(dn).ok()?.0.into_iter().next());
    let parts = rdn.map(|rdn| rdn.parts).unwrap_or_default();
    Wanted {
        name: name.to_owned(),
        rule: work.schema.rule(name),
        mode: Mode::Merge,
        values: Values::new(),
        ours: Values::new(),
        naming: parts
            .into_iter()
            .filter(|part| work.schema.name(&part.name) == key)
            .map(|part| part.value)
            .collect(),
        key,
    }
}

async fn modify<D: Directory>(work: &Work<'_, D>, dn: &str, mods: Vec<Mod>) -> Result<(), Trouble> {
    work.directory.write(&Change::new(dn, Kind::Modify(mods))).await
}

fn code(result: &Result<(), Trouble>) -> Option<u32> {
    result.as_ref().err().and_then(Trouble::code)
}

fn written(result: Result<(), Trouble>, dn: &str) -> Result<bool, Fault> {
    result.map(|()| true).map_err(|trouble| trouble.into_fault(dn))
}

fn same_entry<D: Directory>(work: &Work<'_, D>, one: &str, other: &str) -> bool {
    one == other || identity(work.schema, one) == identity(work.schema, other)
}

fn not_there(target: &EntryTarget) -> Fault {
    match target {
        EntryTarget::Dn(dn) => not_there_yet(dn),
        EntryTarget::OfRow { dn, .. } => not_there_yet(dn.as_deref().unwrap_or_default()),
        EntryTarget::Search { base, .. } => Fault::later(format!("the search below `{base}` finds no entry yet")),
    }
}

/// Tells whether an entry is meant by its row. Where it is not there it has another name still, or is to come, and what goes is there perhaps.
fn is_of_row(target: &EntryTarget) -> bool {
    matches!(target, EntryTarget::OfRow { .. })
}

async fn must_be_there<D: Directory>(work: &Work<'_, D>, dn: &str) -> Result<(), Fault> {
    let found = work.directory.read(dn, &["objectClass".to_owned()]).await;
    match found.map_err(|trouble| trouble.into_fault(dn))? {
        Some(_) => Ok(()),
        None => Err(not_there_yet(dn)),
    }
}

fn not_there_yet(dn: &str) -> Fault {
    Fault::later(format!("{dn}: the entry is not there yet"))
}
