//! The story of an application: tables and rows, capture, marks, changes, and the way back, compared byte for byte.
//!
//! Each story is told twice: by a superuser who owns everything, and by an owner who is no superuser. The two roll back in
//! different ways (the one as a replica, the other with constraints deferred, ordered or made anew).

use postgres::Client;
use postgres::error::SqlState;

use super::{Database, Emaj, Run, database, emaj, owner, wait_for};

/// Who tells the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Superuser,
    Owner,
}

/// Prepares a database and a schema for `who`, and has the story told there.
pub fn tell(who: Who, story: impl FnOnce(&mut Story<'_>)) {
    let db = database();
    match who {
        Who::Superuser => {
            let mut client = db.client();
            client
                .batch_execute(&format!(
                    "create schema app; alter database {} set search_path = app, public; set search_path = app, public",
                    db.name()
                ))
                .expect("a schema");
            story(&mut Story::new(&db, None, "app".to_owned(), client));
        }
        Who::Owner => {
            let owner = owner(&db);
            let client = owner.client();
            let name = owner.name().to_owned();
            story(&mut Story::new(&db, Some(name.clone()), name, client));
        }
    }
}

/// A database in the middle of a story.
pub struct Story<'db> {
    pub db: &'db Database,
    /// The role that owns everything; none: the superuser.
    pub role: Option<String>,
    /// The application's schema, first in the search path.
    pub schema: String,
    pub client: Client,
    /// YAML that follows `tables:` of the group, indented by four spaces.
    pub options: String,
}

/// The content of every table and sequence of the application, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State(pub String);

impl<'db> Story<'db> {
    fn new(db: &'db Database, role: Option<String>, schema: String, client: Client) -> Self {
        Story {
            db,
            role,
            schema,
            client,
            options: "    sequences: all\n".to_owned(),
        }
    }

    /// Runs statements of the application.
    #[track_caller]
    pub fn sql(&mut self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql) {
            panic!("{}\n{sql}", described(&error));
        }
    }

    /// Runs statements as superuser, whoever tells the story.
    #[track_caller]
    pub fn sql_as_superuser(&mut self, sql: &str) {
        if let Err(error) = self.db.client().batch_execute(sql) {
            panic!("{}\n{sql}", described(&error));
        }
    }

    /// Runs statements that must be refused by emaj; returns message and hint.
    #[track_caller]
    pub fn refused(&mut self, sql: &str) -> String {
        match self.client.batch_execute(sql) {
            Ok(()) => panic!("not refused: {sql}"),
            Err(error) => {
                let db = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
                assert_eq!(db.code().code(), "EJ001", "{}\n{sql}", described(&error));
                format!("{} ({})", db.message(), db.hint().unwrap_or_default())
            }
        }
    }

    /// Runs statements that must fail; returns the SQLSTATE.
    #[track_caller]
    pub fn fails(&mut self, sql: &str) -> SqlState {
        match self.client.batch_execute(sql) {
            Ok(()) => panic!("did not fail: {sql}"),
            Err(error) => error.code().unwrap_or_else(|| panic!("{error}")).clone(),
        }
    }

    /// Returns the first column of every row, as text, one a line.
    #[track_caller]
    pub fn ask(&mut self, query: &str) -> String {
        let messages = self
            .client
            .simple_query(query)
            .unwrap_or_else(|error| panic!("{}\n{query}", described(&error)));
        lines(&messages)
    }

    /// Returns the manifest of one group `g` over `tables` (YAML list items).
    pub fn manifest(&self, tables: &str) -> String {
        format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups:\n  g:\n    tables: [{tables}]\n{}",
            self.options
        )
    }

    /// Runs `emaj` as the story's role.
    pub fn emaj(&self, args: &[&str]) -> Run {
        self.prepare(args).run()
    }

    /// Prepares a run of `emaj` as the role of the story.
    pub fn prepare(&self, args: &[&str]) -> Emaj {
        let run = emaj(self.db).args(args);
        match &self.role {
            Some(role) => run.user(role),
            None => run,
        }
    }

    /// Has a run end at a named point, and waits until its sessions have ended too.
    #[track_caller]
    pub fn breaks_off(&mut self, run: Emaj, point: &str, what: &str) {
        let run = run.env("EMAJ_FAIL_AT", point).run();
        assert_ne!(run.status, Some(0), "{what}: {run}");
        wait_for("the sessions of the program to end", 60, || {
            self.ask("select pid from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()").is_empty().then_some(())
        });
    }

    /// Installs a manifest, whatever it destroys.
    #[track_caller]
    pub fn install_manifest(&self, manifest: &str) -> Run {
        let path = self.db.file("emaj.yaml", manifest);
        self.emaj(&["install", "--allow-destroy", path.to_str().expect("a path")])
    }

    /// Captures the application's tables that `tables` names (`*` for all), in a group `g` that logs.
    #[track_caller]
    pub fn install(&self, tables: &str) {
        let items: Vec<String> = tables
            .split(',')
            .map(|table| {
                let table = table.trim();
                match table.strip_prefix('!') {
                    Some(table) => format!("'!{}.{table}'", self.schema),
                    None => format!("'{}.{table}'", self.schema),
                }
            })
            .collect();
        self.install_manifest(&self.manifest(&items.join(", "))).ok();
    }

    #[track_caller]
    pub fn mark(&mut self, name: &str) {
        self.sql(&format!("select emaj.emaj_set_mark_group('g', '{name}')"));
    }

    /// Sets marks until a look for drift holds: that is once every transaction before it is over, those of other tests too.
    #[track_caller]
    pub fn looks(&mut self) {
        wait_for("a look that holds", 300, || {
            self.mark("look %");
            (self.ask("select emaj._looked('g')") == "t").then_some(())
        });
    }

    #[track_caller]
    pub fn rollback(&mut self, mark: &str) {
        if let Some(jobs) = jobs() {
            return drop(
                self.emaj(&["rollback", "g", mark, "-y", "--unlogged", "--jobs", &jobs])
                    .ok(),
            );
        }
        self.sql(&format!("select emaj.emaj_rollback_group('g', '{mark}')"));
    }

    #[track_caller]
    pub fn logged_rollback(&mut self, mark: &str) {
        if let Some(jobs) = jobs() {
            return drop(self.emaj(&["rollback", "g", mark, "-y", "--jobs", &jobs]).ok());
        }
        self.sql(&format!("select emaj.emaj_logged_rollback_group('g', '{mark}')"));
    }

    /// Waits until every transaction that runs now is over, also those of other tests: what was made before is older than the next mark
    /// beyond doubt then.
    #[track_caller]
    pub fn settle(&mut self) {
        let now = self.ask("select txid_current()");
        wait_for("older transactions to end", 300, || {
            let over = format!("select txid_snapshot_xmin(txid_current_snapshot()) > {now}");
            (self.ask(&over) == "t").then_some(())
        });
    }

    /// Returns the name of the mark that the last logged rollback set before it began.
    #[track_caller]
    pub fn last_start_mark(&mut self) -> String {
        self.ask("select mark_name from emaj.emaj_mark where mark_name like 'RLBK\\_%\\_START' order by mark_id desc limit 1")
    }

    /// Returns how the last rollback went about its foreign keys.
    #[track_caller]
    pub fn strategy(&mut self) -> String {
        self.ask("select rlbk_strategy from emaj.emaj_rollback order by rlbk_id desc limit 1")
    }

    /// Returns the content of every table and sequence of the application.
    #[track_caller]
    pub fn state(&self) -> State {
        State(content(self.db, &format!("n.nspname = '{}'", self.schema)))
    }

    /// Returns the content of everything: the application's tables and emaj's, logs included. Left out are emaj's own sequences:
    /// what was drawn stays drawn, whatever becomes of the transaction.
    #[track_caller]
    pub fn everything(&self) -> State {
        State(
            content(
                self.db,
                "n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and not (n.nspname = 'emaj' and c.relkind = 'S')",
            ) + &self.definitions(),
        )
    }

    /// Returns columns, constraints, triggers, rules and indexes of the application's tables, with states and comments.
    #[track_caller]
    pub fn definitions(&self) -> String {
        let query = format!(
            "select x from (
               select 'constraint ' || c.conrelid::regclass || ' ' || c.conname || ' ' || pg_get_constraintdef(c.oid)
                      || ' ' || c.convalidated || ' ' || c.condeferrable || ' ' || c.condeferred || ' ' || c.conislocal || ' ' || c.coninhcount
                      || ' ' || coalesce(obj_description(c.oid, 'pg_constraint'), '-')
                 from pg_constraint c where c.conrelid <> 0
               union all
               select 'trigger ' || tgrelid::regclass || ' ' || tgname || ' ' || tgenabled::text || ' ' || pg_get_triggerdef(oid)
                      || ' ' || coalesce(obj_description(oid, 'pg_trigger'), '-')
                 from pg_trigger where not tgisinternal
               union all
               select 'internal ' || tgrelid::regclass || ' ' || tgfoid::regproc || ' ' || tgenabled::text || ' ' || tgdeferrable || ' ' || tginitdeferred || ' ' || count(*)
                 from pg_trigger where tgisinternal group by tgrelid, tgfoid, tgenabled, tgdeferrable, tginitdeferred
               union all
               select 'rule ' || ev_class::regclass || ' ' || rulename || ' ' || ev_enabled::text from pg_rewrite where ev_type <> '1'
               union all
               select 'column ' || attrelid::regclass || ' ' || attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull || attidentity::text || attgenerated::text
                 from pg_attribute where attnum > 0
               union all
               -- (Of this schema only: temporary ones of a session that ends may go meanwhile.)
               select 'index ' || indrelid::regclass || ' ' || pg_get_indexdef(indexrelid) || indisvalid
                 from pg_index where indrelid in (select oid from pg_class where relnamespace = '{0}'::regnamespace)
               union all
               select 'table ' || c.oid::regclass || ' ' || c.relkind::text || c.relpersistence::text || c.relrowsecurity || c.relforcerowsecurity || coalesce(c.relacl::text, '')
                 from pg_class c where relkind in ('r', 'p', 'S')) as d(x)
              where split_part(x, ' ', 2) like '{0}.%' order by x collate \"C\"",
            self.schema
        );
        let mut client = self.db.client();
        client.batch_execute("set search_path = ''").expect("set");
        lines(
            &client
                .simple_query(&query)
                .unwrap_or_else(|error| panic!("{}", described(&error))),
        )
    }

    /// Returns children without a parent, over every validated foreign key of the database.
    #[track_caller]
    pub fn orphans(&self) -> String {
        let mut client = self.db.client();
        client.batch_execute("set search_path = ''").expect("set");
        let keys = client
            .query(
                "select format('select %L || t::text from only %s as t where %s and not exists (select from %s as p where %s)',
                          con.conrelid::regclass || ': ', con.conrelid::regclass,
                          string_agg(format('t.%I is not null', ca.attname), ' and '), con.confrelid::regclass,
                          string_agg(format('t.%I = p.%I', ca.attname, pa.attname), ' and '))
                   from pg_constraint con
                  cross join lateral unnest(con.conkey, con.confkey) as k(child, parent)
                   join pg_attribute ca on ca.attrelid = con.conrelid and ca.attnum = k.child
                   join pg_attribute pa on pa.attrelid = con.confrelid and pa.attnum = k.parent
                  where con.contype = 'f' and con.convalidated and con.conparentid = 0
                    -- (A `period` is there when it is covered, not when it is found; 18.)
                    and to_jsonb(con) ->> 'conperiod' is distinct from 'true'
                  group by con.oid, con.conrelid, con.confrelid",
                &[],
            )
            .unwrap_or_else(|error| panic!("{}", described(&error)));
        keys.iter()
            .map(|row| {
                lines(
                    &client
                        .simple_query(row.get(0))
                        .unwrap_or_else(|error| panic!("{}", described(&error))),
                )
            })
            .collect()
    }

    /// Asserts that data, registry and definitions are all as they were.
    #[track_caller]
    pub fn unchanged(&self, everything: &State) {
        same(&self.everything().0, &everything.0, "after a refusal");
    }

    /// Asserts that the application's data are `wanted`, its definitions `definitions`, and that no row is an orphan.
    #[track_caller]
    pub fn is(&self, wanted: &State, definitions: &str, when: &str) {
        same(&self.state().0, &wanted.0, when);
        same(&self.definitions(), definitions, &format!("{when}: definitions"));
        assert_eq!(self.orphans(), "", "{when}: orphans");
    }

    /// Carries each of `changes` out after a mark of its own, then goes back and forth between the marks, logged and unlogged,
    /// and compares everything each time.
    #[track_caller]
    pub fn back_and_forth(&mut self, changes: &[&str]) {
        let definitions = self.definitions();
        let mut states = vec![self.state()];
        for (at, change) in changes.iter().enumerate() {
            self.mark(&format!("m{at}"));
            self.sql(change);
            let state = self.state();
            assert_ne!(states.last(), Some(&state), "these changes change nothing: {change}");
            states.push(state);
        }
        let now = states.pop().expect("a state");
        for (at, state) in states.iter().enumerate().rev() {
            self.logged_rollback(&format!("m{at}"));
            self.is(state, &definitions, &format!("logged rollback to m{at}"));
            let start = self.last_start_mark();
            self.logged_rollback(&start);
            self.is(
                &now,
                &definitions,
                &format!("back to before the logged rollback to m{at}"),
            );
        }
        self.logged_rollback("m0");
        self.is(&states[0], &definitions, "logged rollback to the first mark");
        for (at, state) in states.iter().enumerate().rev() {
            self.rollback(&format!("m{at}"));
            self.is(state, &definitions, &format!("unlogged rollback to m{at}"));
            let left = self.ask(&format!(
                "select coalesce(sum(stat_rows), 0) from emaj.emaj_log_stat_group('g', 'm{at}', null)"
            ));
            assert_eq!(left, "0", "log rows are left after an unlogged rollback to m{at}");
        }
        // The target stays usable, and the road forward is open: the same changes give what the same changes gave.
        self.sql(changes[0]);
        self.rollback("m0");
        self.is(&states[0], &definitions, "changed again, and back again");
        assert_eq!(self.ask("select emaj.emaj_verify_all()"), "No error detected");
        let left = self
            .ask("select relname from pg_class where relnamespace = 'emaj'::regnamespace and relname like 'work\\_%'");
        assert_eq!(left, "", "work tables are left");
    }
}

/// Returns in how many sessions the stories roll back, by the program; none: in one, by SQL.
fn jobs() -> Option<String> {
    std::env::var("EMAJ_JOBS").ok()
}

/// Fails with the lines that differ.
#[track_caller]
pub fn same(found: &str, wanted: &str, when: &str) {
    if found != wanted {
        let (found, wanted): (Vec<&str>, Vec<&str>) = (found.lines().collect(), wanted.lines().collect());
        let missing: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).take(20).collect();
        let extra: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).take(20).collect();
        panic!("{when}: not as it was\nmissing: {missing:#?}\ntoo much: {extra:#?}");
    }
}

/// Tells a story twice, as a test each; the body has the story in `$story`.
macro_rules! stories {
    ($($(#[$meta:meta])* $name:ident($story:ident) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            use crate::support::story::{Story, Who, tell};

            fn story($story: &mut Story<'_>) $body

            $(#[$meta])*
            #[test]
            fn by_superuser() {
                tell(Who::Superuser, story);
            }

            $(#[$meta])*
            #[test]
            fn by_owner() {
                tell(Who::Owner, story);
            }
        }
    )*};
}

/// Cases told in SQL alone, each twice: what is there at first, then the changes, each after a mark of its own.
macro_rules! cases {
    ($($name:ident: $setup:expr => $($change:expr),+;)*) => {
        $crate::support::story::stories! {$(
            $name(story) {
                story.sql($setup);
                story.install("*");
                story.back_and_forth(&[$($change),+]);
            }
        )*}
    };
}

pub(crate) use {cases, stories};

/// Reads every row of every table that `which` selects, and every sequence.
fn content(db: &Database, which: &str) -> String {
    let mut client = db.client();
    client.batch_execute("set search_path = ''").expect("set");
    let relations = client
        .query(
            &format!(
                "select c.oid::regclass::text, c.relkind = 'S'
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace
                  where c.relkind in ('r', 'S') and {which} order by c.oid::regclass::text collate \"C\""
            ),
            &[],
        )
        .unwrap_or_else(|error| panic!("{}", described(&error)));
    let mut text = String::new();
    for relation in &relations {
        let name: String = relation.get(0);
        let query = if relation.get(1) {
            format!(
                "select row(last_value, is_called, emaj_s.seqtypid, emaj_s.seqstart, emaj_s.seqincrement, emaj_s.seqmax, emaj_s.seqmin, emaj_s.seqcache, emaj_s.seqcycle)::text
                   from {name}, pg_catalog.pg_sequence as emaj_s where emaj_s.seqrelid = '{}'::regclass",
                name.replace('\'', "''")
            )
        } else {
            format!("select t::text from only {name} as t order by t::text collate \"C\"")
        };
        let rows = client
            .simple_query(&query)
            .unwrap_or_else(|error| panic!("{}\n{query}", described(&error)));
        for row in lines(&rows).lines() {
            text += &format!("{name}: {row}\n");
        }
    }
    text
}

fn lines(messages: &[postgres::SimpleQueryMessage]) -> String {
    let rows: Vec<&str> = messages
        .iter()
        .filter_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("∅")),
            _ => None,
        })
        .collect();
    rows.join("\n")
}

/// Returns all that the server said about an error.
pub fn described(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!(
            "{} {}\nDETAIL: {}\nHINT: {}\nWHERE: {}",
            db.code().code(),
            db.message(),
            db.detail().unwrap_or_default(),
            db.hint().unwrap_or_default(),
            db.where_().unwrap_or_default()
        ),
        None => error.to_string(),
    }
}
