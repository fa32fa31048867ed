//! Lives a life: carries its steps out, and keeps account of what is owed to whom.
//!
//! A place may be owed what no worker can know: of a binding that was changed, of what was discarded, of a place that was set back so that
//! nobody sees it. Such bindings are in `needs`: they are sent anew before they are compared, all others have to be right by themselves.

use std::collections::BTreeSet;

use postgres::Client;

use super::law::Lines;
use super::steps::{Edit, HERE, Partition, Place, REFUSED, Say, Step, THERE};
use crate::support::story::described;
use crate::support::{Database, Run, database, emaj, shared_cluster};

/// What is wrong, as a text.
pub(super) type Wrong = String;

pub(super) const BINDINGS: &[(&str, Place)] = &[
    ("items", Place::Copy),
    ("codes", Place::Copy),
    ("codes_arch", Place::Copy),
    ("nums", Place::Copy),
    ("parts", Place::Copy),
    ("parents", Place::Copy),
    ("children", Place::Copy),
    ("told", Place::Lines),
    ("put", Place::Lines),
];

pub(super) fn bindings_of(place: Place) -> impl Iterator<Item = &'static str> {
    BINDINGS
        .iter()
        .filter(move |(_, to)| *to == place)
        .map(|(name, _)| *name)
}

/// What may be otherwise in the manifest.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) capitals: bool,
    pub(super) too: bool,
    pub(super) few: bool,
    pub(super) without_codes: bool,
    pub(super) strict: bool,
    pub(super) as_row: bool,
}

impl Manifest {
    fn text(self, there: &str) -> String {
        let columns = |of: &str| {
            let v = if self.capitals { "row.v | upper" } else { "row.v" };
            format!(
                "{{ table: public.{of}, key: [id], columns: {{ id: row.id, code: row.code, n: row.n, v: \"{v}\", rid: row.rid }} }}"
            )
        };
        let items = match (self.too, self.capitals) {
            (false, false) => "{}".to_owned(),
            (false, true) => columns("item"),
            (true, _) => columns("item_too"),
        };
        let body = |more: &str| {
            format!(
                "{{ key: \"{{{{ row.code | default('-', true) }}}}\", body: '{{\"id\": {{{{ id | tojson }}}}, \"event\": {{{{ event | tojson }}}}, \
                 \"row\": {{{{ row | tojson }}}}, \"old\": {{{{ old | tojson }}}}{more}}}' }}"
            )
        };
        let told = if self.as_row {
            "row: {}".to_owned()
        } else {
            format!(
                "message: {}",
                body(if self.strict {
                    ", \"share\": {{ 12 / row.n }}"
                } else {
                    ""
                })
            )
        };
        let few = if self.few { " and row.n < 3" } else { "" };
        let codes = if self.without_codes {
            String::new()
        } else {
            format!(
                "  codes: {{ table: public.item, to: copy, when: \"row.code is not none and row.n is not none{few}\", \
                 row: {{ table: public.codes, key: [code], columns: {{ code: row.code, n: row.n }} }} }}\n"
            )
        };
        format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\n\
             groups: {{ g: {{ tables: [public.item, public.arch, public.part, public.parent, public.child] }} }}\n\
             sinks:\n  copy: {there}\n  lines: {{ file: {{ path: out.ndjson }} }}\n\
             bindings:\n  items: {{ table: public.item, to: copy, row: {items} }}\n{codes}\
             \x20 codes_arch: {{ table: public.arch, to: copy, when: \"row.code is not none\", row: {{ table: public.codes, key: [code], columns: {{ code: row.code, n: row.n }} }} }}\n\
             \x20 nums: {{ table: public.item, to: copy, when: \"row.code is not none\", row: {{ table: public.nums, key: [n], columns: {{ n: row.code }} }} }}\n\
             \x20 parts: {{ table: public.part, to: copy, row: {{}} }}\n  parents: {{ table: public.parent, to: copy, row: {{}} }}\n\
             \x20 children: {{ table: public.child, to: copy, row: {{}} }}\n\
             \x20 told: {{ table: public.item, to: lines, {told} }}\n  put: {{ table: public.arch, to: lines, message: {} }}\n",
            body("")
        )
    }
}

/// SQL as a script says it.
fn psql(database: &str, sql: &str) -> String {
    format!("psql {database} <<'END'\n{sql}\nEND")
}

/// One word of a table's name.
fn plain(table: &str) -> String {
    table.replace(['.', '"'], "_")
}

struct Mark {
    name: String,
    at: usize,
}

/// Both places as they were.
struct Copied {
    schema: String,
    /// Of each place by which step it had all that there was.
    had: [usize; 2],
    /// Of each place how much had come in another way than by windows.
    aside: [usize; 2],
    epoch: usize,
    file: Vec<u8>,
    note: Vec<u8>,
}

#[derive(Default, Clone, Copy)]
struct Account {
    /// At which step it had all that there was.
    has: usize,
    /// It was set back to where it had all that there was at this step.
    back: Option<usize>,
    /// A replay was accepted and is not over.
    replays: bool,
    /// Counts what came in another way than by windows, or may have come: a copy from before does not show that it is missing.
    aside: usize,
}

/// How much there was of everything.
#[derive(Default, Debug)]
pub(super) struct Done {
    pub(super) statements: usize,
    pub(super) runs: usize,
    pub(super) killed: usize,
    pub(super) set_aside: usize,
    pub(super) restored: usize,
    pub(super) lost: usize,
    /// Set back, and put right by a replay.
    pub(super) put_right: usize,
    pub(super) replays: usize,
    pub(super) lines: usize,
    pub(super) compared: usize,
}

impl Done {
    pub(super) fn add(&mut self, other: &Done) {
        self.statements += other.statements;
        self.runs += other.runs;
        self.killed += other.killed;
        self.set_aside += other.set_aside;
        self.restored += other.restored;
        self.lost += other.lost;
        self.put_right += other.put_right;
        self.replays += other.replays;
        self.lines += other.lines;
        self.compared += other.compared;
    }
}

pub(super) struct Machine {
    pub(super) here: Database,
    pub(super) there: Database,
    pub(super) client: Client,
    pub(super) other: Client,
    pub(super) manifest: Manifest,
    pub(super) needs: BTreeSet<&'static str>,
    pub(super) lines: Lines,
    pub(super) done: Done,
    /// What was done, as a script.
    told: Vec<String>,
    refuses: bool,
    marks: Vec<Mark>,
    copies: Vec<Copied>,
    accounts: [Account; 2],
    /// An `emaj init` was not finished.
    unfinished: bool,
    /// The number of the last transaction.
    last: Option<i64>,
    /// Which step it is.
    at: usize,
}

impl Machine {
    pub(super) fn new() -> Self {
        let (here, there) = (database(), database());
        here.client().batch_execute(HERE).unwrap();
        // Whoever is in the way there stays longer than it is waited for.
        let patience = format!("alter database {} set lock_timeout = '50ms'", there.name());
        there.client().batch_execute(&format!("{THERE} {patience}")).unwrap();
        let (client, other) = (here.client(), there.client());
        let told = vec![
            "createdb here; createdb there".to_owned(),
            format!("psql here <<'END'\n{}\nEND", HERE.trim()),
            format!(
                "psql there <<'END'\n{}\nalter database there set lock_timeout = '50ms'\nEND",
                THERE.trim()
            ),
        ];
        let mut machine = Machine {
            here,
            there,
            client,
            other,
            manifest: Manifest {
                strict: true,
                ..Manifest::default()
            },
            needs: BTreeSet::new(),
            lines: Lines::default(),
            done: Done::default(),
            told,
            refuses: false,
            marks: Vec::new(),
            copies: Vec::new(),
            accounts: [Account::default(); 2],
            unfinished: false,
            last: None,
            at: 0,
        };
        machine.install().unwrap_or_else(|wrong| panic!("{wrong}"));
        machine
    }

    /// What was done, for whoever has to find out.
    pub(super) fn script(&self) -> String {
        let cluster = shared_cluster();
        self.told
            .join("\n")
            .replace(&format!("\"{}\"", cluster.socket_dir().display()), "\"$PGHOST\"")
            .replace(&format!("port: {},", cluster.port()), "port: $PGPORT,")
            .replace(&format!("dbname: {},", self.there.name()), "dbname: there,")
    }

    pub(super) fn live(&mut self, steps: &[Step]) -> Result<(), Wrong> {
        // Something has been delivered, so that there is a position at both places.
        self.sql(
            "insert into item select n, n::text, n, 'a' from generate_series(1, 4) n; insert into arch select n, n::text, n, 'a' from generate_series(2, 5) n; \
             insert into part select 1 + n % 2, n, 'a' from generate_series(1, 4) n; insert into parent values (1, 'a'), (2, 'a'); insert into child values (1, 1, 'a')",
        )?;
        self.refuse(true)?;
        self.mark()?;
        self.run(&[])?;
        self.copy()?;
        for step in steps {
            self.at += 1;
            self.step(step)?;
        }
        self.settle()
    }

    fn step(&mut self, step: &Step) -> Result<(), Wrong> {
        match step {
            Step::Write(said, commit) => self.write(said, *commit),
            Step::Run => self.run(&[]).map(drop),
            Step::Killed(point, at) => self.run(&[("EMAJ_FAIL_AT", &format!("{point}:{at}"))]).map(drop),
            Step::Locked(key) => self.run_beside_locks(*key),
            Step::Refuse => self.refuse(!self.refuses),
            Step::Retry => self.act(&["failures", "retry", "--all", "--yes"], &[], &[0]).map(drop),
            Step::Discard(place) => self.discard(*place),
            Step::Pause(place) => self.act(&["sink", "pause", place.sink()], &[], &[0, 4]).map(drop),
            Step::Resume(place) => self.act(&["sink", "resume", place.sink()], &[], &[0, 4]).map(drop),
            Step::Mark => self.mark(),
            Step::Forget => self.forget(),
            Step::Rollback(at, logged) => self.roll_back(*at, *logged),
            Step::Revert => self.revert(),
            Step::Replay(place, at) => match self.newest(*at) {
                Some(at) => self.replay(*place, at).map(drop),
                None => Ok(()),
            },
            Step::Init {
                binding,
                prune,
                restart,
                killed,
            } => self.init(*binding, *prune, *restart, *killed),
            Step::Edit(edit) => self.edit(*edit),
            Step::Copy => self.copy(),
            Step::Restore(place, at) => self.restore(*place, *at),
            Step::Lose(place) => self.lose(*place),
            Step::Partition(what) => self.partition(*what),
            Step::Settle => self.settle(),
        }
    }

    /// Says something at the source, and nothing of it is refused.
    fn sql(&mut self, sql: &str) -> Result<(), Wrong> {
        self.told.push(psql("here", sql));
        self.client
            .batch_execute(sql)
            .map_err(|error| format!("{}\n{sql}", described(&error)))
    }

    fn sql_there(&mut self, sql: &str) -> Result<(), Wrong> {
        self.told.push(psql("there", sql));
        self.other
            .batch_execute(sql)
            .map_err(|error| format!("{}\n{sql}", described(&error)))
    }

    pub(super) fn ask(&mut self, sql: &str) -> Vec<String> {
        let rows = self
            .client
            .query(sql, &[])
            .unwrap_or_else(|error| panic!("{}\n{sql}", described(&error)));
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Runs `emaj`; it ends with one of these, or not at all where it is to be killed.
    fn act(&mut self, words: &[&str], env: &[(&str, &str)], codes: &[i32]) -> Result<Run, Wrong> {
        let set: String = env.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        self.told.push(format!("{set}emaj {}", words.join(" ")));
        let run = emaj(&self.here).envs(env.iter().copied()).args(words).run();
        if let Some(line) = self.told.last_mut() {
            *line += &run.status.map_or("  # killed".to_owned(), |code| format!("  # {code}"));
        }
        self.done.killed += usize::from(run.status.is_none());
        let is_right = match run.status {
            Some(code) => codes.contains(&code),
            None => !env.is_empty(),
        };
        if is_right && !run.stderr.contains("panicked") && !run.stderr.contains("mistake in emaj") {
            Ok(run)
        } else {
            Err(format!("it ends in another way than with {codes:?}:\n{run}"))
        }
    }

    fn run(&mut self, env: &[(&str, &str)]) -> Result<Run, Wrong> {
        self.count_aside();
        let run = self.act(&["run", "--until-empty"], env, &[0, 3, 4])?;
        self.done.runs += 1;
        let over = self.ask("select sink_name from emaj.emaj_sink where sink_replay is null and sink_state = 'ACTIVE'");
        if run.status.is_some() {
            for place in Place::ALL {
                if over.iter().any(|sink| sink == place.sink()) {
                    self.accounts[place as usize].replays = false;
                    if run.status != Some(4) {
                        self.accounts[place as usize].has = self.at;
                    }
                }
            }
        }
        Ok(run)
    }

    /// What waits may arrive now, and moves no position.
    fn count_aside(&mut self) {
        let waits = self.ask("select fail_sink from emaj.emaj_failure");
        self.done.set_aside = self.done.set_aside.max(waits.len());
        for place in Place::ALL {
            self.accounts[place as usize].aside += usize::from(waits.iter().any(|sink| sink == place.sink()));
        }
    }

    fn is_lost(&mut self, place: Place) -> bool {
        let lost = self.ask("select sink_name from emaj.emaj_sink where sink_state = 'LOST'");
        lost.iter().any(|sink| sink == place.sink())
    }

    /// All of a place has to be sent anew.
    fn owe_all(&mut self, place: Place) {
        match place {
            Place::Copy => self.needs.extend(bindings_of(place)),
            Place::Lines => self.lines.has_gap = true,
        }
    }

    fn write(&mut self, said: &[Say], commit: bool) -> Result<(), Wrong> {
        let end = if commit { "commit" } else { "rollback" };
        let all: Vec<String> = said.iter().map(Say::sql).collect();
        self.client.batch_execute("begin").unwrap();
        let mut kept = Vec::new();
        for sql in all {
            let Err(error) = self
                .client
                .batch_execute(&format!("savepoint each; {sql}; release each"))
            else {
                kept.push(sql);
                continue;
            };
            self.client.batch_execute("rollback to each; release each").unwrap();
            // What its own keys refuse is the application's affair.
            let code = error.code().map_or("none", |code| code.code()).to_owned();
            if !code.starts_with("23") && !["21000", "27000"].contains(&&*code) {
                return Err(format!("{}\n{sql}", described(&error)));
            }
        }
        self.done.statements += kept.len();
        let number = self.client.query_one("select txid_current()", &[]).unwrap();
        self.client.batch_execute(end).unwrap();
        if commit {
            self.last = Some(number.get(0));
        }
        if !kept.is_empty() {
            self.told
                .push(psql("here", &format!("begin; {}; {end}", kept.join("; "))));
        }
        Ok(())
    }

    fn run_beside_locks(&mut self, key: u8) -> Result<(), Wrong> {
        let lock = format!(
            "begin; select from item where id = {key} for update; select from part where id = {key} for update; select from codes where code = '{key}' for update"
        );
        self.told.push(format!("# meanwhile in another session, there: {lock}"));
        self.other.batch_execute(&lock).unwrap();
        let run = self.run(&[]);
        self.other.batch_execute("rollback").unwrap();
        run.map(drop)
    }

    fn refuse(&mut self, refuses: bool) -> Result<(), Wrong> {
        if refuses == self.refuses {
            return Ok(());
        }
        self.refuses = refuses;
        let sql: Vec<String> = REFUSED
            .iter()
            .map(|(table, rule)| match refuses {
                true => format!("alter table {table} add constraint no_bad check ({rule}) not valid"),
                false => format!("alter table {table} drop constraint no_bad"),
            })
            .collect();
        self.sql_there(&sql.join("; "))
    }

    fn discard(&mut self, place: Place) -> Result<(), Wrong> {
        let whose = self.ask(&format!(
            "select fail_binding from emaj.emaj_failure where fail_sink = '{}'",
            place.sink()
        ));
        if whose.is_empty() {
            return Ok(());
        }
        self.act(&["failures", "discard", "--sink", place.sink(), "--yes"], &[], &[0])?;
        match place {
            Place::Copy => self
                .needs
                .extend(bindings_of(place).filter(|name| whose.iter().any(|one| one == name))),
            Place::Lines => self.lines.has_gap = true,
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<(), Wrong> {
        let name = format!("m{}", self.at);
        self.sql(&format!("select emaj.emaj_set_mark_group('g', '{name}')"))?;
        self.marks.push(Mark { name, at: self.at });
        Ok(())
    }

    /// The newest mark but so many.
    fn newest(&self, at: usize) -> Option<usize> {
        self.marks.len().checked_sub(1 + at % self.marks.len().max(1))
    }

    fn forget(&mut self) -> Result<(), Wrong> {
        if let Some(first) = self.marks.len().checked_sub(2) {
            let name = self.marks[first].name.clone();
            self.sql(&format!("select emaj.emaj_delete_before_mark_group('g', '{name}')"))?;
        }
        self.sql("select emaj.emaj_purge_group('g')")?;
        self.look_for_marks();
        Ok(())
    }

    fn look_for_marks(&mut self) {
        let there = self.ask("select mark_name from emaj.emaj_mark where mark_state = 'ACTIVE'");
        self.marks.retain(|mark| there.contains(&mark.name));
    }

    /// Says something that emaj may refuse for a reason.
    fn try_sql(&mut self, sql: &str) -> Result<bool, Wrong> {
        let Err(error) = self.client.batch_execute(sql) else {
            self.told.push(psql("here", sql));
            return Ok(true);
        };
        match error.code().map(|code| code.code()) {
            Some("EJ001") => Ok(false),
            _ => Err(format!("{}\n{sql}", described(&error))),
        }
    }

    fn roll_back(&mut self, at: usize, logged: bool) -> Result<(), Wrong> {
        let Some(at) = self.newest(at) else { return Ok(()) };
        let function = if logged {
            "emaj_logged_rollback_group"
        } else {
            "emaj_rollback_group"
        };
        let name = self.marks[at].name.clone();
        self.try_sql(&format!("select emaj.{function}('g', '{name}')"))?;
        self.look_for_marks();
        Ok(())
    }

    fn revert(&mut self) -> Result<(), Wrong> {
        let Some(last) = self.last.take() else { return Ok(()) };
        self.try_sql(&format!(
            "select emaj.emaj_revert_group('g', null, {last}, null, null, null, false)"
        ))
        .map(drop)
    }

    /// Says whether it was accepted.
    fn replay(&mut self, place: Place, at: usize) -> Result<bool, Wrong> {
        let (name, since) = (self.marks[at].name.clone(), self.marks[at].at);
        let run = self.act(&["replay", place.sink(), "--from", &name, "--yes"], &[], &[0, 4])?;
        if run.status != Some(0) {
            return Ok(false);
        }
        self.done.replays += 1;
        let account = &mut self.accounts[place as usize];
        account.replays = true;
        // That the mark is older than what the place has is for whoever names it to see to.
        match account.back.take() {
            Some(back) if back < since => self.owe_all(place),
            Some(_) => self.done.put_right += 1,
            None => {}
        }
        if place == Place::Lines {
            self.lines.may_repeat = true;
            self.lines.has_gap |= self.manifest.as_row || self.lines.kinds_changed || since < self.lines.since;
        }
        Ok(true)
    }

    fn init(&mut self, binding: Option<usize>, prune: bool, restart: bool, killed: Option<&str>) -> Result<(), Wrong> {
        let chosen: Vec<(&str, Place)> = match binding {
            None => self.bindings(),
            Some(at) => vec![BINDINGS[at]],
        };
        if self.manifest.without_codes && chosen[0].0 == "codes" {
            return Ok(());
        }
        let mut words = vec!["init"];
        words.extend(chosen.iter().flat_map(|(name, _)| ["--binding", name]));
        words.extend(prune.then_some("--prune"));
        words.extend(restart.then_some("--restart"));
        let lost: Vec<Place> = Place::ALL.into_iter().filter(|place| self.is_lost(*place)).collect();
        self.count_aside();
        let env: Vec<(&str, &str)> = killed.iter().map(|point| ("EMAJ_FAIL_AT", *point)).collect();
        let run = self.act(&words, &env, &[0, 3, 4])?;
        self.unfinished |= run.status != Some(0);
        for place in Place::ALL {
            if !chosen.iter().any(|(_, to)| *to == place) {
                continue;
            }
            self.accounts[place as usize].aside += 1;
            self.lines.may_repeat |= place == Place::Lines;
            if lost.contains(&place) {
                // Without `--prune` what is too much stays, and so it does where it did not come to that.
                self.owe_all(place);
                if !self.is_lost(place) {
                    self.accounts[place as usize].back = None;
                }
            }
        }
        Ok(())
    }

    fn bindings(&self) -> Vec<(&'static str, Place)> {
        let there = |(name, _): &&(&'static str, Place)| !self.manifest.without_codes || *name != "codes";
        BINDINGS.iter().filter(there).copied().collect()
    }

    fn install(&mut self) -> Result<Run, Wrong> {
        let cluster = shared_cluster();
        let there = format!(
            "{{ postgres: {{ host: \"{}\", port: {}, dbname: {}, user: {} }} }}",
            cluster.socket_dir().display(),
            cluster.port(),
            self.there.name(),
            cluster.superuser()
        );
        let text = self.manifest.text(&there);
        self.here.file("emaj.yaml", &text);
        self.told.push(format!("cat > emaj.yaml <<END\n{text}END"));
        self.act(&["install", "--allow-destroy"], &[], &[0])
    }

    fn edit(&mut self, edit: Edit) -> Result<(), Wrong> {
        let manifest = &mut self.manifest;
        let (what, owed) = match edit {
            Edit::Capitals => (&mut manifest.capitals, Some("items")),
            Edit::Too => (&mut manifest.too, Some("items")),
            Edit::Few => (&mut manifest.few, Some("codes")),
            Edit::Codes => (&mut manifest.without_codes, Some("codes")),
            Edit::Strict => (&mut manifest.strict, None),
            Edit::AsRow => (&mut manifest.as_row, None),
        };
        *what = !*what;
        self.needs.extend(owed);
        self.lines.kinds_changed |= edit == Edit::AsRow;
        self.install().map(drop)
    }

    fn tables_there(&mut self) -> Vec<String> {
        let tables = "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'emaj_received') order by 1";
        let rows = self.other.query(tables, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn copy(&mut self) -> Result<(), Wrong> {
        let schema = format!("copy_{}", self.at);
        let mut sql = format!("create schema {schema}");
        for table in self.tables_there() {
            sql += &format!("; create table {schema}.{} as table {table}", plain(&table));
        }
        self.sql_there(&sql)?;
        self.told.push(format!(
            "cp out.ndjson {schema}.ndjson; cp out.ndjson.emaj {schema}.note"
        ));
        let read = |name: &str| std::fs::read(self.here.dir().join(name)).map_err(|error| format!("{name}: {error}"));
        self.copies.push(Copied {
            file: read("out.ndjson")?,
            note: read("out.ndjson.emaj")?,
            schema,
            // (What is set back and not mended has what it had then.)
            had: self.accounts.map(|account| account.back.unwrap_or(account.has)),
            aside: [self.accounts[0].aside, self.accounts[1].aside],
            epoch: self.lines.epoch,
        });
        Ok(())
    }

    fn restore(&mut self, place: Place, at: usize) -> Result<(), Wrong> {
        let Some(at) = self.copies.len().checked_sub(1 + at % self.copies.len().max(1)) else {
            return Ok(());
        };
        self.act(&["sink", "resume", place.sink()], &[], &[0, 4])?;
        let copied = &self.copies[at];
        let (schema, had, aside, epoch) = (copied.schema.clone(), copied.had, copied.aside, copied.epoch);
        match place {
            Place::Copy => {
                let refuses = self.refuses;
                self.refuse(false)?;
                let tables = self.tables_there();
                let mut sql = format!("set session_replication_role = replica; truncate {}", tables.join(", "));
                for table in tables {
                    sql += &format!("; insert into {table} table {schema}.{}", plain(&table));
                }
                self.sql_there(&(sql + "; reset session_replication_role"))?;
                self.refuse(refuses)?;
            }
            Place::Lines => {
                self.told.push(format!(
                    "cp {schema}.ndjson out.ndjson; cp {schema}.note out.ndjson.emaj"
                ));
                let copied = &self.copies[at];
                self.here.file("out.ndjson", &String::from_utf8_lossy(&copied.file));
                self.here
                    .file("out.ndjson.emaj", &String::from_utf8_lossy(&copied.note));
                self.lines.has_gap |= epoch != self.lines.epoch || self.lines.kinds_changed || self.manifest.as_row;
            }
        }
        self.done.restored += 1;
        // Nor does what came behind a refusal say what the place has to have, until more comes.
        let waits = self.ask("select fail_sink from emaj.emaj_failure");
        let account = self.accounts[place as usize];
        let unseen =
            account.replays || account.aside != aside[place as usize] || waits.iter().any(|sink| sink == place.sink());
        self.run(&[])?;
        if self.is_lost(place) {
            self.accounts[place as usize].back = Some(had[place as usize]);
            self.done.lost += 1;
        } else if unseen {
            self.owe_all(place);
        }
        Ok(())
    }

    fn lose(&mut self, place: Place) -> Result<(), Wrong> {
        self.sql(&format!(
            "update emaj.emaj_sink set sink_max_lag = '0', sink_moved = sink_moved - interval '2 days' where sink_name = '{0}'; select emaj._lose_sinks(); \
             update emaj.emaj_sink set sink_max_lag = null where sink_name = '{0}'",
            place.sink()
        ))?;
        self.done.lost += usize::from(self.is_lost(place));
        Ok(())
    }

    fn partition(&mut self, what: Partition) -> Result<(), Wrong> {
        let has = |table: &str| {
            format!(
                "select count(*)::text from pg_inherits where inhparent = 'part'::regclass and inhrelid = to_regclass('{table}')"
            )
        };
        let sql = match what {
            Partition::ComesOrGoes { in_order } => {
                if self.ask(&has("part_3")) == ["1"] {
                    "alter table part detach partition part_3; drop table part_3".to_owned()
                } else {
                    let columns = if in_order {
                        "k int not null, id int not null, v text"
                    } else {
                        "v text, id int not null, k int not null"
                    };
                    format!(
                        "create table part_3 ({columns}, primary key (k, id)); insert into part_3 (k, id, v) values (3, 1, 'came'), (3, 9, 'came'); \
                         alter table part attach partition part_3 for values in (3)"
                    )
                }
            }
            Partition::Away => "insert into part values (2, 8, 'first') on conflict do nothing; alter table part detach partition part_2; \
                 insert into part_2 (k, id, v) values (2, 7, 'away') on conflict do nothing; delete from part_2 where id = 8; \
                 alter table part attach partition part_2 for values in (2)"
                .to_owned(),
        };
        self.sql(&sql)?;
        let run = self.install()?;
        if !run.to_string().contains("--binding parts") {
            return Err(format!("it is not said that rows of `parts` are missing there:\n{run}"));
        }
        self.needs.insert("parts");
        Ok(())
    }

    /// Mends everything, has everything delivered, and compares.
    fn settle(&mut self) -> Result<(), Wrong> {
        self.told.push("# all is mended".to_owned());
        self.refuse(false)?;
        self.sql("update item set code = '4' where code = 'x'")?;
        if self.manifest.strict || self.manifest.without_codes {
            (self.manifest.strict, self.manifest.without_codes) = (false, false);
            self.install()?;
        }
        for place in Place::ALL {
            self.act(&["sink", "resume", place.sink()], &[], &[0, 4])?;
        }
        self.until_empty()?;
        // What one of them has left of a key that both make, `--prune` keeps for the other one.
        let shared = ["codes", "codes_arch"];
        if shared.iter().any(|name| self.needs.contains(name)) {
            self.needs.extend(shared);
        }
        let needs = self.needs.clone();
        self.compare(&needs)?;
        if !needs.is_empty() {
            let mut words = vec!["init", "--prune"];
            words.extend(needs.iter().flat_map(|name| ["--binding", name]));
            self.accounts[Place::Copy as usize].aside += 1;
            self.act(&words, &[], &[0])?;
            self.until_empty()?;
            self.needs.clear();
            self.compare(&BTreeSet::new())?;
        }
        self.compare_lines()?;
        self.done.compared += 1;
        Ok(())
    }

    fn until_empty(&mut self) -> Result<(), Wrong> {
        let mut last = None;
        for _ in 0..5 {
            for place in Place::ALL {
                if self.is_lost(place) {
                    self.find(place)?;
                }
            }
            if std::mem::take(&mut self.unfinished) {
                self.lines.may_repeat = true;
                self.accounts.iter_mut().for_each(|account| account.aside += 1);
                let run = self.act(&["init"], &[], &[0, 3, 4])?;
                self.unfinished = run.status != Some(0);
            }
            self.act(&["failures", "retry", "--all", "--yes"], &[], &[0])?;
            let run = self.run(&[])?;
            if run.status == Some(0) && !self.unfinished {
                return Ok(());
            }
            last = Some(run);
        }
        let waits = self.ask("select concat_ws(' ', fail_sink, fail_binding, fail_key, fail_state, fail_reason) from emaj.emaj_failure order by fail_id");
        Err(format!(
            "all is mended, and not everything arrives:\n{}\n{}",
            waits.join("\n"),
            last.map_or(String::new(), |run| run.to_string())
        ))
    }

    /// Has a sink that is lost go on: from a mark where that does, else with all rows.
    fn find(&mut self, place: Place) -> Result<(), Wrong> {
        let back = self.accounts[place as usize].back;
        let older = (0..self.marks.len())
            .rev()
            .find(|at| back.is_none_or(|back| self.marks[*at].at <= back));
        if let Some(at) = older
            && self.replay(place, at)?
        {
            return Ok(());
        }
        let mut words = vec!["init"];
        words.extend(bindings_of(place).flat_map(|name| ["--binding", name]));
        self.owe_all(place);
        self.accounts[place as usize].back = None;
        self.accounts[place as usize].aside += 1;
        self.lines.may_repeat |= place == Place::Lines;
        let run = self.act(&words, &[], &[0, 3])?;
        self.unfinished |= run.status != Some(0);
        Ok(())
    }

    /// How many steps were begun.
    pub(super) fn steps(&self) -> usize {
        self.at
    }
}
