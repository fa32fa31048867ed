//! A directory (LDAP version 3): entries, values and attributes are kept as the bindings say.
//!
//! The road of a batch: [`waves`] says what may be under way together, [`work`] carries a delivery out ([`entry`], [`value`]), [`diff`]
//! compares, [`directory`] speaks the protocol. `preview` goes the same road with [`dry`] at its end, which prints LDIF. Everything
//! is done by comparing, so doing it twice changes nothing. What the answers of a server cause stands in `sink/fault.rs`.
//!
//! `ldap3` is used through its asynchronous side: many operations may be under way on one connection. The runtime belongs
//! to the connection and is entered and left by each call; nothing else runs in it.

mod change;
mod connect;
mod diff;
mod directory;
mod dn;
mod dry;
mod entry;
mod escape;
mod ldif;
mod listing;
mod probe;
mod schema;
mod settings;
mod taken;
mod value;
mod waves;
mod work;

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use futures_util::StreamExt as _;
use tokio::runtime::{Builder, Runtime};

use self::directory::{Live, Query};
use self::dn::Dn;
use self::schema::Schema;
use self::settings::Settings;
use self::taken::Taken;
use self::waves::{depth, waves};
use self::work::Work;
use super::fault::{Fault, Verdict};
use super::{Action, Delivery, Existing, Finding, Lease, Opener, Outcome, Sink};
use crate::errors::Result;
use crate::manifest::{self, LdapSink, Scope};
use crate::pg::Environment;
use crate::words::bytes;

/// How often a delivery may lose the connection while it is alone on it.
const TURNS: usize = 2;

pub use self::dn::folded;
pub(crate) use self::entry::{filter_of, filters_of};
pub use self::escape::{dn_value, filter_value};

/// Looks up the settings of an LDAP sink.
///
/// # Errors
/// All references that lead nowhere; a `url` or a file of certificates that cannot be used.
pub(super) fn opener(sink: &LdapSink, environment: &Environment) -> Result<Box<dyn Opener>> {
    Ok(Box::new(LdapOpener {
        settings: Arc::new(Settings::resolve(sink, environment)?),
        schema: Arc::default(),
        taken: Arc::default(),
    }))
}

/// Opens connections; what the server says about its attributes is read by the first that needs it.
#[derive(Debug)]
struct LdapOpener {
    settings: Arc<Settings>,
    schema: Arc<OnceLock<Schema>>,
    taken: Arc<Taken>,
}

impl Opener for LdapOpener {
    fn open(&self) -> Result<Box<dyn Sink>, Fault> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::down(format!("no runtime for a connection: {error}")))?;
        let ldap = runtime.block_on(connect::open(&self.settings))?;
        Ok(Box::new(Connection {
            live: Live::new(ldap, self.settings.timeout, Arc::default()),
            runtime,
            settings: self.settings.clone(),
            schema: self.schema.clone(),
            taken: self.taken.clone(),
        }))
    }

    fn lanes(&self) -> usize {
        self.settings.connections
    }

    fn describe(&self) -> String {
        self.settings.describe()
    }

    fn place(&self) -> String {
        self.settings.place()
    }
}

/// One connection, logged in.
struct Connection {
    live: Live,
    runtime: Runtime,
    settings: Arc<Settings>,
    schema: Arc<OnceLock<Schema>>,
    taken: Arc<Taken>,
}

impl Sink for Connection {
    fn deliver(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        let schema = match self.schema() {
            Ok(schema) => schema,
            Err(fault) => return batch.first().map(|_| Outcome::Failed(fault)).into_iter().collect(),
        };
        let schema = schema.get_or_init(Schema::default);
        let depth = depth(self.settings.connections);
        // (One that was lost before this is not made anew: whoever opened it is told.)
        let was_open = !self.live.is_closed();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(batch.len());
        for wave in waves(batch) {
            let start = wave.start;
            let work = Work::new(&self.live, schema, &self.taken);
            let results = self.runtime.block_on(carry_out_wave(&work, depth, batch, wave));
            // The server may have closed the connection because of one of them: each has its turn alone then.
            let is_closed = was_open && self.live.is_closed();
            for (at, result) in results.into_iter().enumerate() {
                let result = match result {
                    Some(result) if !is_closed || !is_down(&result) => result,
                    _ if is_closed => self.carry_out_alone(schema, batch, start + at),
                    // The connection was lost while this one waited.
                    _ => Err(Fault::down("the connection to the directory was lost")),
                };
                let is_down = is_down(&result);
                outcomes.push(match result {
                    Ok(true) => Outcome::Written,
                    Ok(false) => Outcome::Unchanged,
                    Err(fault) => Outcome::Failed(fault),
                });
                if is_down {
                    return outcomes;
                }
            }
        }
        outcomes
    }

    fn under(&mut self, lease: Arc<Lease>) {
        self.live.lease = lease;
    }

    fn probe(&mut self) -> Result<Vec<Finding>, Fault> {
        self.runtime.block_on(probe::probe(&self.live, &self.settings))
    }

    fn preview(&mut self, batch: &[Delivery]) -> Result<Vec<String>, Fault> {
        let schema = self.schema()?;
        let schema = schema.get_or_init(Schema::default);
        self.runtime.block_on(dry::preview(&self.live, schema, batch))
    }

    fn identities(&mut self, batch: &[Delivery]) -> Result<Vec<Option<String>>, Fault> {
        let schema = self.schema()?;
        let schema = schema.get_or_init(Schema::default);
        let identity = |delivery: &Delivery| match &delivery.action {
            Action::Entry(change) => Some(Dn::parse(&change.new.as_ref()?.dn).ok()?.identity(schema)),
            _ => None,
        };
        Ok(batch.iter().map(identity).collect())
    }

    fn may_make(&self, binding: &manifest::Binding, existing: &Existing) -> bool {
        match &existing.remove {
            Action::Entry(change) => change.old.iter().any(|old| listing::may_make(binding, &old.dn)),
            _ => false,
        }
    }

    fn existing(&mut self, binding: &manifest::Binding, visit: &mut dyn FnMut(Existing)) -> Result<(), Fault> {
        let form = listing::Form::of(binding)?;
        let schema = self.schema()?;
        let schema = schema.get_or_init(Schema::default);
        let mut cookie = Vec::new();
        loop {
            // `visit` is called outside the runtime: it may well talk to a database, which has its own.
            let page = self.wait(form.page(&self.live, self.settings.page_size, cookie))?;
            page.found
                .iter()
                .filter_map(|found| form.existing(&found.dn, schema))
                .for_each(&mut *visit);
            if page.cookie.is_empty() {
                return Ok(());
            }
            cookie = page.cookie;
        }
    }
}

impl Connection {
    /// Carries out one delivery with nothing beside it, on a connection that is made anew when it is closed. One that has it closed each time,
    /// though the directory can be reached and takes the login, fails by itself: what else there is must not wait for it.
    ///
    /// # Errors
    /// [`Verdict::Down`]: the directory cannot be reached; what the delivery itself fails with.
    fn carry_out_alone(&mut self, schema: &Schema, batch: &[Delivery], place: usize) -> Result<bool, Fault> {
        for _ in 0..TURNS {
            self.reopen()?;
            let work = Work::new(&self.live, schema, &self.taken);
            let result = self.wait(work.carry_out(batch, place));
            if !is_down(&result) || !self.live.is_closed() {
                return result;
            }
        }
        self.reopen()?;
        let (what, size) = (batch[place].action.place(), batch[place].action.size());
        Err(Fault::later(format!(
            "{what}: the directory closes the connection each time this is sent, {} of values; it may be more than it takes at once (OpenLDAP: \
             `sockbuf_max_incoming_auth`)",
            bytes(size)
        )))
    }

    fn reopen(&mut self) -> Result<(), Fault> {
        if self.live.is_closed() {
            let ldap = self.wait(connect::open(&self.settings))?;
            self.live = Live::new(ldap, self.settings.timeout, self.live.lease.clone());
        }
        Ok(())
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Reads what the server says about its attributes, unless a connection has.
    fn schema(&self) -> Result<Arc<OnceLock<Schema>>, Fault> {
        if self.schema.get().is_none() {
            let schema = self.wait(read_schema(&self.live))?;
            _ = self.schema.set(schema);
        }
        Ok(self.schema.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A word of farewell, where it can be said.
        if tokio::runtime::Handle::try_current().is_err() && !self.live.is_closed() {
            let mut ldap = self.live.ldap.clone();
            ldap.with_timeout(std::time::Duration::from_millis(200));
            _ = self.runtime.block_on(ldap.unbind());
        }
    }
}

/// Carries out a wave. What the connection was lost before has no result, and what it was lost by is [`Verdict::Down`].
async fn carry_out_wave(
    work: &Work<'_, Live>,
    depth: usize,
    batch: &[Delivery],
    wave: Range<usize>,
) -> Vec<Option<Result<bool, Fault>>> {
    let (start, is_alone) = (wave.start, wave.len() == 1);
    let mut results: Vec<Option<Result<bool, Fault>>> = vec![None; wave.len()];
    let started = wave.map(async |place| (place, work.carry_out(batch, place).await));
    let mut under_way = futures_util::stream::iter(started).buffer_unordered(depth);
    while let Some((place, result)) = under_way.next().await {
        let is_lost = is_down(&result);
        results[place - start] = Some(result);
        if is_lost {
            return results;
        }
    }
    drop(under_way);
    for (at, result) in results.iter_mut().enumerate() {
        // The server may compare entries with each other (unique values): what failed beside others has its turn alone.
        if let Some(Err(_)) = result
            && !is_alone
        {
            let again = work.carry_out(batch, start + at).await;
            let is_lost = is_down(&again);
            *result = Some(again);
            if is_lost {
                break;
            }
        }
    }
    results
}

fn is_down(result: &Result<bool, Fault>) -> bool {
    matches!(result, Err(fault) if fault.verdict == Verdict::Down)
}

/// Asks for the definitions of attributes (RFC 4512, 4.4). A server that hides them is no reason not to deliver.
async fn read_schema(live: &Live) -> Result<Schema, Fault> {
    let look = async |base: &str, filter: &str, attribute: &str| {
        let query = Query {
            base,
            scope: Scope::Base,
            filter,
            attributes: &[attribute.to_owned()],
        };
        let values = match live.search(&query, None).await {
            Ok(page) => page.found.into_iter().next(),
            Err(trouble) if trouble.code().is_some() => None,
            Err(trouble) => return Err(trouble.into_fault("reading the schema")),
        };
        let values = values.map(|found| found.values(&attribute.to_ascii_lowercase()).to_vec());
        let text = |value: Vec<u8>| String::from_utf8(value).ok();
        Ok(values
            .unwrap_or_default()
            .into_iter()
            .filter_map(text)
            .collect::<Vec<String>>())
    };
    let place = look("", "(objectClass=*)", "subschemaSubentry").await?;
    let Some(place) = place.first() else {
        return Ok(Schema::default());
    };
    let definitions = look(place, "(objectClass=subschema)", "attributeTypes").await?;
    Ok(Schema::read(definitions.iter().map(String::as_str)))
}
