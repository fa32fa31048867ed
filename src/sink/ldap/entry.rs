//! An entry comes, changes, or goes: read, compare, write only the difference.
//!
//! A new entry is added without looking first, because it is seldom there. A changed one is read, and what differs is written: so what
//! somebody else broke is mended, and what is so already is left alone. Whatever is found, the end is the same: that is what
//! makes it safe to do it twice.

use super::super::fault::{self, Fault, Verdict};
use super::super::{Action, Delivery, Entry, EntryChange};
use super::change::{Change, Kind, Mod, Values};
use super::diff::{Care, Wanted, difference, reverse, union};
use super::directory::{Directory, Found, Trouble};
use super::dn::{BadDn, Dn, Rdn};
use super::escape::filter_value;
use super::schema::{Rule, Schema};
use super::work::Work;
use crate::manifest::{Mode, Scope};

/// How often it is looked again when somebody else is changing the entry meanwhile.
const TRIES: usize = 5;

/// Brings an entry where it is to be; `place` is the delivery's in its batch. Returns whether something was written.
pub(super) async fn carry_out<D: Directory>(
    work: &Work<'_, D>,
    change: &EntryChange,
    batch: &[Delivery],
    place: usize,
) -> Result<bool, Fault> {
    // (The directory tells more names apart than who looked for the heir.)
    let heir = change.heir.as_ref().filter(|heir| {
        let old = change.old.as_ref().map(|old| identity(work.schema, &old.dn));
        old == Some(identity(work.schema, &heir.dn))
    });
    match (&change.old, &change.new, heir) {
        (None, None, _) => Ok(false),
        (None, Some(new), _) => create(work, &Aim::new(work.schema, new, None, &[])?).await,
        (Some(old), new, Some(heir)) => {
            let gone = match batch[place].replay {
                Some(_) => give_back(work, old, new.as_ref(), heir, &change.others).await?,
                None => false,
            };
            Ok(leave(work, old, new.as_ref(), heir, &change.others).await? || gone)
        }
        (Some(old), None, None) => {
            let is_anothers = work.taken.is_another(&identity(work.schema, &old.dn), old);
            Ok(!is_anothers && remove(work, &old.dn).await?)
        }
        (Some(old), Some(new), None) => {
            let aim = Aim::new(work.schema, new, Some(old), &change.others)?;
            let from = Dn::parse(&old.dn).map_err(|error| bad_dn(&old.dn, error))?;
            if from.identity(work.schema) != aim.identity {
                rename(work, &aim, old, &from, batch, place).await
            } else if values_of(&from) != values_of(&aim.dn) {
                respell(work, &aim, old).await
            } else {
                work.taken.follow(&aim.identity, old, new);
                converge(work, &aim).await
            }
        }
    }
}

/// An entry as it is to be.
struct Aim<'a> {
    entry: &'a Entry,
    dn: Dn,
    identity: String,
    attributes: Vec<Wanted>,
}

impl<'a> Aim<'a> {
    /// `others` are values of `old` that another binding gives: they are not the row's alone.
    fn new(
        schema: &Schema,
        entry: &'a Entry,
        old: Option<&Entry>,
        others: &[(String, String)],
    ) -> Result<Aim<'a>, Fault> {
        let dn = Dn::parse(&entry.dn).map_err(|error| bad_dn(&entry.dn, error))?;
        let Some(rdn) = dn.0.first() else {
            return Err(Fault::never("the name of the entry is empty"));
        };
        Ok(Aim {
            attributes: attributes(schema, entry, old, others, rdn),
            identity: dn.identity(schema),
            entry,
            dn,
        })
    }

    fn dn(&self) -> &str {
        &self.entry.dn
    }

    /// Returns what an entry that is new is made of.
    fn content(&self, care: Care) -> Vec<(String, Values)> {
        let values = |wanted: &Wanted| {
            let rule = match care {
                Care::Plain => wanted.rule,
                Care::Whole => Rule::Folded,
            };
            (wanted.name.clone(), union([&wanted.values, &wanted.naming], rule))
        };
        let all = self.attributes.iter().map(values);
        all.filter(|(_, values)| !values.is_empty()).collect()
    }
}

/// Lists what each attribute is to be: object classes are only added to, and the values of the entry's own name are always among them.
fn attributes(
    schema: &Schema,
    entry: &Entry,
    old: Option<&Entry>,
    others: &[(String, String)],
    rdn: &Rdn,
) -> Vec<Wanted> {
    let mut list: Vec<Wanted> = Vec::new();
    let mut put = |name: &str, mode: Mode, values: Values, ours: Values, naming: Values| {
        let key = schema.name(name);
        match list.iter_mut().find(|wanted| wanted.key == key) {
            Some(wanted) => {
                wanted.values.extend(values);
                wanted.ours.extend(ours);
                wanted.naming.extend(naming);
            }
            None => list.push(Wanted {
                name: name.to_owned(),
                rule: schema.rule(name),
                key,
                mode,
                values,
                ours,
                naming,
            }),
        }
    };
    let none = Values::new;
    if !entry.object_classes.is_empty() {
        put("objectClass", Mode::Merge, bytes(&entry.object_classes), none(), none());
    }
    for attribute in &entry.attributes {
        put(
            &attribute.name,
            attribute.mode,
            bytes(&attribute.values),
            none(),
            none(),
        );
    }
    for attribute in old.map(|old| old.attributes.as_slice()).unwrap_or_default() {
        let is_ours = |value: &&String| {
            !others
                .iter()
                .any(|(name, other)| *name == attribute.name && other == *value)
        };
        let ours = attribute.values.iter().filter(is_ours);
        let ours = ours.map(|value| value.clone().into_bytes()).collect();
        put(&attribute.name, Mode::Merge, none(), ours, none());
    }
    let old_rdn = old.and_then(|old| Dn::parse(&old.dn).ok()?.0.into_iter().next());
    for part in old_rdn.map(|rdn| rdn.parts).unwrap_or_default() {
        put(&part.name, Mode::Merge, none(), vec![part.value], none());
    }
    for part in &rdn.parts {
        put(&part.name, Mode::Merge, none(), none(), vec![part.value.clone()]);
    }
    list
}

/// Adds an entry that is thought to be new.
async fn create<D: Directory>(work: &Work<'_, D>, aim: &Aim<'_>) -> Result<bool, Fault> {
    match add(work, aim).await {
        Ok(()) => Ok(true),
        Err(trouble) if trouble.code() == Some(fault::ENTRY_ALREADY_EXISTS) => converge(work, aim).await,
        Err(trouble) => Err(trouble.into_fault(aim.dn())),
    }
}

async fn add<D: Directory>(work: &Work<'_, D>, aim: &Aim<'_>) -> Result<(), Trouble> {
    let change = |care| Change::new(aim.dn(), Kind::Add(aim.content(care)));
    match work.directory.write(&change(Care::Plain)).await {
        // Two of our values are one to the server.
        Err(trouble) if trouble.code() == Some(fault::ATTRIBUTE_OR_VALUE_EXISTS) => {
            work.directory.write(&change(Care::Whole)).await
        }
        result => result,
    }
}

/// Reads the entry and writes what differs; adds it when it is not there.
async fn converge<D: Directory>(work: &Work<'_, D>, aim: &Aim<'_>) -> Result<bool, Fault> {
    let names: Vec<String> = aim.attributes.iter().map(|wanted| wanted.name.clone()).collect();
    let mut care = Care::Plain;
    for _ in 0..TRIES {
        let found = work.directory.read(aim.dn(), &names).await;
        let result = match found.map_err(|trouble| trouble.into_fault(aim.dn()))? {
            None => add(work, aim).await,
            Some(found) => {
                let mods = changes(&aim.attributes, &found, care);
                if mods.is_empty() {
                    return Ok(false);
                }
                work.directory.write(&Change::new(aim.dn(), Kind::Modify(mods))).await
            }
        };
        match result {
            Ok(()) => return Ok(true),
            Err(trouble) => match trouble.code() {
                Some(fault::ENTRY_ALREADY_EXISTS) => {}
                // It went meanwhile, or the one above is missing: an addition tells.
                Some(fault::NO_SUCH_OBJECT) if care == Care::Plain => match create_missing(work, aim).await? {
                    Some(written) => return Ok(written),
                    None => continue,
                },
                Some(code) if work.is_other_mind(code) && care == Care::Plain => care = Care::Whole,
                _ => return Err(trouble.into_fault(aim.dn())),
            },
        }
    }
    Err(Fault::later(format!(
        "{}: somebody else is changing it at the same time",
        aim.dn()
    )))
}

/// Adds an entry that has just gone; `None`: it has just come again.
async fn create_missing<D: Directory>(work: &Work<'_, D>, aim: &Aim<'_>) -> Result<Option<bool>, Fault> {
    match add(work, aim).await {
        Ok(()) => Ok(Some(true)),
        Err(trouble) if trouble.code() == Some(fault::ENTRY_ALREADY_EXISTS) => Ok(None),
        Err(trouble) => Err(trouble.into_fault(aim.dn())),
    }
}

fn changes(attributes: &[Wanted], found: &Found, care: Care) -> Vec<Mod> {
    let of = |wanted: &Wanted| difference(wanted, found.values(&wanted.key), care);
    attributes.iter().flat_map(of).collect()
}

/// Gives an entry up that is another row's: it becomes what that one makes of it, and this row gets one of its own, if it is to have any.
async fn leave<D: Directory>(
    work: &Work<'_, D>,
    old: &Entry,
    new: Option<&Entry>,
    heir: &Entry,
    others: &[(String, String)],
) -> Result<bool, Fault> {
    let aim = Aim::new(work.schema, heir, Some(old), others)?;
    work.taken.is_another(&aim.identity, old);
    let written = converge(work, &aim).await.map_err(of_heir)?;
    let Some(new) = new else {
        return Ok(written);
    };
    let aim = Aim::new(work.schema, new, Some(old), others)?;
    match add(work, &aim).await {
        Ok(()) => Ok(true),
        Err(trouble) if trouble.code() == Some(fault::ENTRY_ALREADY_EXISTS) => {
            Ok(take_over(work, &aim).await? || written)
        }
        Err(trouble) => Err(trouble.into_fault(aim.dn())),
    }
}

/// What is refused of the heir may pass for this row: the other one is corrected, or goes, or gives the name up too.
fn of_heir(fault: Fault) -> Fault {
    match fault.verdict {
        Verdict::Never | Verdict::Clash => Fault::later(format!(
            "another row has this name by now, and what is made of that one is refused: {}",
            fault.reason
        )),
        _ => fault,
    }
}

/// Of what is delivered again: a place that was set back may have the entry from the time when it was not the heir's. It goes the row's way then, with all that
/// others have written to it. It does only if it is what the row made of it, and not what the heir makes: what is neither may be the heir's, edited or not
/// up to date. Returns whether something was written.
async fn give_back<D: Directory>(
    work: &Work<'_, D>,
    old: &Entry,
    new: Option<&Entry>,
    heir: &Entry,
    others: &[(String, String)],
) -> Result<bool, Fault> {
    let is_heirs = is_so(work, &Aim::new(work.schema, heir, Some(old), others)?).await?;
    if is_heirs || !is_so(work, &Aim::new(work.schema, old, None, &[])?).await? {
        return Ok(false);
    }
    let Some(new) = new else {
        return remove(work, &old.dn).await;
    };
    let aim = Aim::new(work.schema, new, Some(old), others)?;
    let from = Dn::parse(&old.dn).map_err(|error| bad_dn(&old.dn, error))?;
    match work.directory.write(&renaming(work.schema, &aim, old, &from)).await {
        Ok(()) => Ok(true),
        // It has gone already, or was never there, or there is no entry above.
        Err(trouble) => match trouble.code() {
            Some(fault::ENTRY_ALREADY_EXISTS | fault::NO_SUCH_OBJECT) => Ok(false),
            _ => Err(trouble.into_fault(&old.dn)),
        },
    }
}

/// Tells whether an entry is as it is to be.
async fn is_so<D: Directory>(work: &Work<'_, D>, aim: &Aim<'_>) -> Result<bool, Fault> {
    let names: Vec<String> = aim.attributes.iter().map(|wanted| wanted.name.clone()).collect();
    let found = work.directory.read(aim.dn(), &names).await;
    let found = found.map_err(|trouble| trouble.into_fault(aim.dn()))?;
    Ok(found.is_some_and(|found| changes(&aim.attributes, &found, Care::Plain).is_empty()))
}

/// Tells of an answer whether it says that there is no entry of this name, or can be none.
fn is_not_there(trouble: &Trouble) -> bool {
    matches!(trouble.code(), Some(fault::NO_SUCH_OBJECT | fault::INVALID_DN_SYNTAX))
}

/// Takes an entry away.
async fn remove<D: Directory>(work: &Work<'_, D>, dn: &str) -> Result<bool, Fault> {
    match work.directory.write(&Change::new(dn, Kind::Delete)).await {
        Ok(()) => Ok(true),
        Err(trouble) if is_not_there(&trouble) => Ok(false),
        Err(trouble) => Err(trouble.into_fault(dn)),
    }
}

/// Gives an entry its new name, then what else differs.
async fn rename<D: Directory>(
    work: &Work<'_, D>,
    aim: &Aim<'_>,
    old: &Entry,
    from: &Dn,
    batch: &[Delivery],
    place: usize,
) -> Result<bool, Fault> {
    let moves = Moves {
        schema: work.schema,
        batch,
        place,
    };
    // What has the old name now is another row's: see below.
    if work.taken.is_another(&from.identity(work.schema), old) {
        return match add(work, aim).await {
            Ok(()) => Ok(true),
            Err(trouble) if trouble.code() == Some(fault::ENTRY_ALREADY_EXISTS) => take_over(work, aim).await,
            Err(trouble) => Err(trouble.into_fault(aim.dn())),
        };
    }
    let back = change_before_move(work, aim, old, from).await?;
    let moved = carry_over(work, aim, old, from, moves).await;
    let is_refused = |fault: &Fault| !matches!(fault.verdict, Verdict::Down | Verdict::Silent);
    if moved.as_ref().err().is_some_and(is_refused) && !back.is_empty() {
        // (Why it is refused is what counts.)
        if let Err(trouble) = work.directory.write(&Change::new(&old.dn, Kind::Modify(back))).await {
            let fault = trouble.into_fault(&old.dn);
            tracing::warn!("what was written before a move that was refused is not taken back: {fault}");
        }
    }
    moved
}

/// Moves an entry that is this row's, then writes what else differs.
async fn carry_over<D: Directory>(
    work: &Work<'_, D>,
    aim: &Aim<'_>,
    old: &Entry,
    from: &Dn,
    moves: Moves<'_>,
) -> Result<bool, Fault> {
    match work.directory.write(&renaming(work.schema, aim, old, from)).await {
        Ok(()) => converge(work, aim).await.map(|_| true),
        // It has the new name already, or was never there, or there is no entry above.
        Err(trouble) if is_not_there(&trouble) => converge(work, aim).await,
        // Both names are in use. This entry becomes what its name's new row makes of it; the other one goes, unless it is wanted too.
        Err(trouble) if trouble.code() == Some(fault::ENTRY_ALREADY_EXISTS) => {
            let name = from.identity(work.schema);
            let is_wanted = moves.comes_later(&name) || moves.was_given(&name, old);
            if !is_wanted {
                can_go(work, &old.dn).await?;
            }
            let written = take_over(work, aim).await?;
            Ok((!is_wanted && remove(work, &old.dn).await?) || written)
        }
        Err(trouble) => Err(trouble.into_fault(&old.dn)),
    }
}

/// Looks, before another entry becomes the row's, whether the one that it has can go: the next change of the row begins with that one only.
async fn can_go<D: Directory>(work: &Work<'_, D>, dn: &str) -> Result<(), Fault> {
    match work.directory.find(dn, Scope::One, "(objectClass=*)").await {
        Err(Trouble::Fault(fault)) => Err(fault),
        Ok(below) if !below.is_empty() => Err(Fault::later(format!(
            "{dn}: its new name is in use, and it cannot go because there are entries below it"
        ))),
        // (Who may not look there may be allowed to take it away.)
        Ok(_) | Err(Trouble::Refused { .. }) => Ok(()),
    }
}

/// Writes, under the old name, all but what the name says. What the server refuses is refused before the entry has moved: the next change
/// of the row finds it where it knows it to be. Returns what takes that back: when the move is refused, that change finds it as it knows it to be.
async fn change_before_move<D: Directory>(
    work: &Work<'_, D>,
    aim: &Aim<'_>,
    old: &Entry,
    from: &Dn,
) -> Result<Vec<Mod>, Fault> {
    let parts = from.0.first().map(|rdn| rdn.parts.as_slice()).unwrap_or_default();
    let is_named = |wanted: &Wanted| {
        !wanted.naming.is_empty() || parts.iter().any(|part| work.schema.name(&part.name) == wanted.key)
    };
    let others: Vec<&Wanted> = aim.attributes.iter().filter(|wanted| !is_named(wanted)).collect();
    let names: Vec<String> = others.iter().map(|wanted| wanted.name.clone()).collect();
    let target = work.directory.read(aim.dn(), &["1.1".to_owned()]).await;
    if others.is_empty() || target.map_err(|trouble| trouble.into_fault(aim.dn()))?.is_some() {
        // The new name is in use: what has the old one may be another row's by now.
        return Ok(Vec::new());
    }
    let found = match work.directory.read(&old.dn, &names).await {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Vec::new()),
        Err(trouble) if is_not_there(&trouble) => return Ok(Vec::new()),
        Err(trouble) => return Err(trouble.into_fault(&old.dn)),
    };
    let (mut mods, mut back) = (Vec::new(), Vec::new());
    for wanted in others {
        let present = found.values(&wanted.key);
        let these = difference(wanted, present, Care::Plain);
        back.extend(reverse(&these, wanted, present));
        mods.extend(these);
    }
    if mods.is_empty() {
        return Ok(Vec::new());
    }
    match work.directory.write(&Change::new(&old.dn, Kind::Modify(mods))).await {
        Ok(()) => Ok(back),
        Err(trouble) => match trouble.code() {
            // What is compared otherwise is settled after the move.
            Some(code) if code == fault::NO_SUCH_OBJECT || work.is_other_mind(code) => Ok(Vec::new()),
            _ => Err(trouble.into_fault(&old.dn)),
        },
    }
}

/// Makes an entry that another row has, or had, this row's.
async fn take_over<D: Directory>(work: &Work<'_, D>, aim: &Aim<'_>) -> Result<bool, Fault> {
    work.taken.put(&aim.identity, aim.entry);
    converge(work, aim).await
}

fn renaming(schema: &Schema, aim: &Aim<'_>, old: &Entry, from: &Dn) -> Change {
    let parent = |dn: &Dn| Dn(dn.0.iter().skip(1).cloned().collect()).identity(schema);
    let names = |name: &str| {
        let key = schema.name(name);
        aim.attributes.iter().find(move |wanted| wanted.key == key)
    };
    // The old name's value goes, unless the manifest says what becomes of that attribute: a required one must never be without value.
    let stays = from.0.first().is_some_and(|rdn| {
        rdn.parts.iter().any(|part| match names(&part.name) {
            Some(wanted) if wanted.naming.is_empty() => !wanted.values.is_empty(),
            Some(wanted) => wanted
                .values
                .iter()
                .any(|value| wanted.rule.equal(value) == wanted.rule.equal(&part.value)),
            None => false,
        })
    });
    Change::new(
        &old.dn,
        Kind::Rename {
            rdn: aim.dn.0[0].text.clone(),
            delete_old: !stays,
            superior: (parent(from) != parent(&aim.dn)).then(|| aim.dn.parent()),
        },
    )
}

/// Writes a name in another way that is the same name to the server (`Bob`, `bob`), then what else differs.
async fn respell<D: Directory>(work: &Work<'_, D>, aim: &Aim<'_>, old: &Entry) -> Result<bool, Fault> {
    let found = work.directory.read(aim.dn(), &["1.1".to_owned()]).await;
    let found = found.map_err(|trouble| trouble.into_fault(aim.dn()))?;
    let is_so = |found: &Found| Dn::parse(&found.dn).is_ok_and(|dn| values_of(&dn) == values_of(&aim.dn));
    if found.as_ref().is_none_or(is_so) {
        return converge(work, aim).await;
    }
    let kind = Kind::Rename {
        rdn: aim.dn.0[0].text.clone(),
        // Old and new value are one to the server: deleting the old one would take both.
        delete_old: false,
        superior: None,
    };
    match work.directory.write(&Change::new(&old.dn, kind)).await {
        Ok(()) => converge(work, aim).await.map(|_| true),
        Err(Trouble::Fault(fault)) => Err(fault),
        // A server that will not: the attribute says how it is written.
        Err(Trouble::Refused { .. }) => converge(work, aim).await,
    }
}

/// Returns the values of the entry's own component, byte by byte.
fn values_of(dn: &Dn) -> Vec<&[u8]> {
    let parts = dn.0.first().map(|rdn| rdn.parts.as_slice()).unwrap_or_default();
    parts.iter().map(|part| part.value.as_slice()).collect()
}

pub(super) fn bytes(values: &[String]) -> Values {
    values.iter().map(|value| value.clone().into_bytes()).collect()
}

/// Returns in which form a name is one with the others of its entry; one that cannot be read is only itself.
pub(super) fn identity(schema: &Schema, dn: &str) -> String {
    Dn::parse(dn).map_or_else(|_| dn.to_owned(), |dn| dn.identity(schema))
}

/// Returns the filters of one comparison that find an entry by what it is made of.
pub(crate) fn filters_of(entry: &Entry) -> Vec<String> {
    let dn = Dn::parse(&entry.dn).ok();
    let rdn = dn.iter().filter_map(|dn| dn.0.first()).flat_map(|rdn| &rdn.parts);
    let of_name = rdn.filter_map(|part| Some(filter_of(&part.name, std::str::from_utf8(&part.value).ok()?)));
    let attributes = entry.attributes.iter();
    let of_attributes =
        attributes.flat_map(|attribute| attribute.values.iter().map(|value| filter_of(&attribute.name, value)));
    of_name.chain(of_attributes).collect()
}

/// Returns the filter that finds entries by a value of an attribute.
pub(crate) fn filter_of(attribute: &str, value: &str) -> String {
    format!("({attribute}={})", filter_value(value))
}

fn bad_dn(dn: &str, error: BadDn) -> Fault {
    Fault::never(format!("{dn}: {error}"))
}

/// What the batch says about the names of entries.
#[derive(Clone, Copy)]
struct Moves<'a> {
    schema: &'a Schema,
    batch: &'a [Delivery],
    place: usize,
}

impl Moves<'_> {
    /// Tells whether an earlier delivery gave this name to another row than the one that was `entry`.
    fn was_given(self, name: &str, entry: &Entry) -> bool {
        let earlier = self.batch[..self.place].iter().rev();
        let mut given = earlier.filter_map(|delivery| match &delivery.action {
            Action::Entry(change) => change.new.as_ref(),
            _ => None,
        });
        given
            .find(|new| identity(self.schema, &new.dn) == name)
            .is_some_and(|new| new != entry)
    }

    /// Tells whether a later delivery gives this name to an entry.
    fn comes_later(self, name: &str) -> bool {
        self.batch
            .iter()
            .skip(self.place + 1)
            .any(|delivery| match &delivery.action {
                Action::Entry(change) => {
                    let new = change.new.as_ref();
                    new.is_some_and(|new| identity(self.schema, &new.dn) == name)
                }
                _ => false,
            })
    }
}
