//! What the works of this sink ask of a directory: three questions and one order. There are two: the one that is connected
//! ([`Live`]), and the one that only notes what would be done (`dry`).
//!
//! Every wait has an end: the time-out of the manifest.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ldap3::controls::{Control, ControlType, PagedResults};
use ldap3::{Ldap, LdapError, LdapResult, ResultEntry, SearchOptions};

use super::super::Lease;
use super::super::fault::{self, Fault, Verdict};
use super::change::{Change, Kind, Values, Verb};
use crate::manifest::Scope;

/// Why something was not done.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// The server said no, with a result code and perhaps some words.
    Refused {
        code: u32,
        text: String,
        /// It has the entry, or one above it, as a reference to another server (RFC 3296).
        is_elsewhere: bool,
    },
    /// There was no answer, or nothing could be asked.
    Fault(Fault),
}

impl Trouble {
    /// Returns the result code of a refusal.
    pub(super) fn code(&self) -> Option<u32> {
        match self {
            Trouble::Refused { code, .. } => Some(*code),
            Trouble::Fault(_) => None,
        }
    }

    /// Says what follows; `what` is what was attempted.
    pub(super) fn into_fault(self, what: &str) -> Fault {
        match self {
            Trouble::Refused {
                code,
                text,
                is_elsewhere,
            } => {
                let (verdict, name) = match fault::ldap(code) {
                    // What stands elsewhere in the tree is taken.
                    (_, name) if is_elsewhere => (Verdict::Later, name),
                    known => known,
                };
                let colon = if text.is_empty() { "" } else { ": " };
                let reason = format!("{what}: the directory answers {name} ({code}){colon}{text}");
                Fault::of(verdict, reason)
            }
            Trouble::Fault(fault) if fault.verdict == Verdict::Down => fault,
            Trouble::Fault(fault) => Fault {
                reason: format!("{what}: {}", fault.reason),
                ..fault
            },
        }
    }
}

/// An entry that was read: its name as the server writes it, and attributes by name in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) dn: String,
    pub(super) attributes: HashMap<String, Values>,
}

impl Found {
    pub(super) fn values(&self, name: &str) -> &[Vec<u8>] {
        self.attributes.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A directory. Several calls may be under way at once.
pub(super) trait Directory {
    /// Reads attributes of one entry; `None`: there is no such entry.
    async fn read(&self, dn: &str, attributes: &[String]) -> Result<Option<Found>, Trouble>;

    /// Returns the names of the entries that match, not more than [`MOST`].
    async fn find(&self, base: &str, scope: Scope, filter: &str) -> Result<Vec<String>, Trouble>;

    /// Carries out a change.
    async fn write(&self, change: &Change) -> Result<(), Trouble>;
}

/// How many entries are counted when one was expected.
pub(super) const MOST: usize = 100;

/// The directory at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) ldap: Ldap,
    pub(super) timeout: Duration,
    pub(super) lease: Arc<Lease>,
    /// An operation found the connection closed.
    lost: Arc<AtomicBool>,
}

/// One page of a search, and where the next one begins.
pub(super) struct Page {
    pub(super) found: Vec<Found>,
    pub(super) cookie: Vec<u8>,
}

/// What is looked for.
pub(super) struct Query<'a> {
    pub(super) base: &'a str,
    pub(super) scope: Scope,
    pub(super) filter: &'a str,
    pub(super) attributes: &'a [String],
}

impl Live {
    pub(super) fn new(ldap: Ldap, timeout: Duration, lease: Arc<Lease>) -> Live {
        Live {
            ldap,
            timeout,
            lease,
            lost: Arc::default(),
        }
    }

    /// Tells whether the connection is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.lost.load(Ordering::Relaxed) || self.ldap.clone().is_closed()
    }

    /// Returns a handle for one operation.
    fn handle(&self) -> Ldap {
        let mut ldap = self.ldap.clone();
        ldap.with_timeout(self.timeout);
        ldap
    }

    /// Asks for a page; `page`: its size, and the cookie of the one before.
    pub(super) async fn search(&self, query: &Query<'_>, page: Option<(u32, Vec<u8>)>) -> Result<Page, Trouble> {
        let mut ldap = self.handle();
        // A server may well give more time than we wait.
        let seconds = i32::try_from(self.timeout.as_secs()).unwrap_or(i32::MAX);
        ldap.with_search_options(SearchOptions::new().timelimit(seconds));
        if let Some((size, cookie)) = page {
            let size = i32::try_from(size).unwrap_or(i32::MAX);
            ldap.with_controls(vec![PagedResults { size, cookie }.into()]);
        }
        let scope = match query.scope {
            Scope::Base => ldap3::Scope::Base,
            Scope::One => ldap3::Scope::OneLevel,
            Scope::Sub => ldap3::Scope::Subtree,
        };
        let mut stream = ldap
            .streaming_search(query.base, scope, query.filter, query.attributes)
            .await
            .map_err(|error| self.lost(error))?;
        let mut found = Vec::new();
        while let Some(entry) = stream.next().await.map_err(|error| self.lost(error))? {
            // References to other servers are not followed.
            if !entry.is_ref() && !entry.is_intermediate() {
                found.push(read_entry(entry).ok_or_else(unreadable)?);
            }
        }
        let result = stream.finish().await;
        let cookie = result.ctrls.iter().find_map(|control| match control {
            Control(Some(ControlType::PagedResults), raw) => Some(raw.parse::<PagedResults>().cookie),
            _ => None,
        });
        refused(result)?;
        Ok(Page {
            found,
            cookie: cookie.unwrap_or_default(),
        })
    }

    fn closed(&self, reason: impl std::fmt::Display) -> Fault {
        self.lost.store(true, Ordering::Relaxed);
        Fault::down(reason)
    }

    pub(super) fn lost(&self, error: LdapError) -> Trouble {
        Trouble::Fault(match error {
            LdapError::Timeout { .. } => Fault::down(format!(
                "the directory did not answer within {} s",
                self.timeout.as_secs()
            )),
            LdapError::FilterParsing => Fault::never("the search filter cannot be read"),
            LdapError::AddNoValues => {
                Fault::never("bug: an attribute without values was to be added; please report it")
            }
            LdapError::Io { source } => self.closed(format!("the connection to the directory broke: {source}")),
            _ => self.closed("the directory closed the connection"),
        })
    }
}

impl Directory for Live {
    async fn read(&self, dn: &str, attributes: &[String]) -> Result<Option<Found>, Trouble> {
        let query = Query {
            base: dn,
            scope: Scope::Base,
            filter: "(objectClass=*)",
            attributes,
        };
        match self.search(&query, None).await {
            Ok(page) => Ok(page.found.into_iter().next()),
            Err(Trouble::Refused {
                code: fault::NO_SUCH_OBJECT,
                ..
            }) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    async fn find(&self, base: &str, scope: Scope, filter: &str) -> Result<Vec<String>, Trouble> {
        let query = Query {
            base,
            scope,
            filter,
            attributes: &["1.1".to_owned()],
        };
        // A page is enough to see that there is not exactly one; it needs no size limit, which a server would call an error.
        match self.search(&query, Some((MOST as u32, Vec::new()))).await {
            Ok(page) => Ok(page.found.into_iter().map(|found| found.dn).take(MOST).collect()),
            Err(Trouble::Refused {
                code: fault::NO_SUCH_OBJECT,
                ..
            }) => Ok(Vec::new()),
            Err(trouble) => Err(trouble),
        }
    }

    async fn write(&self, change: &Change) -> Result<(), Trouble> {
        self.lease.check().map_err(Trouble::Fault)?;
        let mut ldap = self.handle();
        let dn = change.dn.as_str();
        let result = match &change.kind {
            Kind::Add(attributes) => {
                let set =
                    |(name, values): &(String, Values)| (name.clone().into_bytes(), values.iter().cloned().collect());
                ldap.add(dn, attributes.iter().map(set).collect()).await
            }
            Kind::Modify(mods) => {
                let one = |one: &super::change::Mod| {
                    let (name, values) = (
                        one.name.clone().into_bytes(),
                        one.values.iter().cloned().collect::<HashSet<_>>(),
                    );
                    match one.verb {
                        Verb::Add => ldap3::Mod::Add(name, values),
                        Verb::Delete => ldap3::Mod::Delete(name, values),
                        Verb::Replace => ldap3::Mod::Replace(name, values),
                    }
                };
                ldap.modify(dn, mods.iter().map(one).collect()).await
            }
            Kind::Rename {
                rdn,
                delete_old,
                superior,
            } => ldap.modifydn(dn, rdn, *delete_old, superior.as_deref()).await,
            Kind::Delete => ldap.delete(dn).await,
        };
        refused(result.map_err(|error| self.lost(error))?)
    }
}

/// Takes an answer for what it is.
pub(super) fn refused(result: LdapResult) -> Result<(), Trouble> {
    match result.rc {
        0 => Ok(()),
        // Where the writes belong is what helps here.
        fault::REFERRAL => Err(Trouble::Refused {
            code: result.rc,
            text: result.refs.join(" "),
            // (A replica names no entry that it would be about.)
            is_elsewhere: !result.matched.is_empty(),
        }),
        code => Err(Trouble::Refused {
            code,
            text: result.text,
            is_elsewhere: false,
        }),
    }
}

fn unreadable() -> Trouble {
    Trouble::Fault(Fault::down("the directory's answer cannot be read"))
}

/// Reads an answer to a search; `ldap3`'s own way panics on a malformed one.
fn read_entry(entry: ResultEntry) -> Option<Found> {
    let mut parts = entry.0.match_id(4)?.expect_constructed()?.into_iter();
    let mut found = Found {
        dn: String::from_utf8(parts.next()?.expect_primitive()?).ok()?,
        attributes: HashMap::new(),
    };
    for attribute in parts.next()?.expect_constructed()? {
        let mut parts = attribute.expect_constructed()?.into_iter();
        let name = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
        let values = parts.next()?.expect_constructed()?;
        let values = values
            .into_iter()
            .map(|value| value.expect_primitive())
            .collect::<Option<_>>()?;
        found.attributes.insert(name.to_ascii_lowercase(), values);
    }
    Some(found)
}
