//! Programs by chance that change the manifest in between: tables join a group, leave it, move to the other one and back, get another name, or are
//! dropped and made anew, while rows change, marks are set and groups go back.
//!
//! The model of a mark is a copy of every row and sequence, and of a table when it joined its group. A rollback across a change is refused,
//! or partial: then what was there all the time is as at the mark and all else as it was, byte for byte; unless a row of one would then
//! refer to none of the other, which has to be refused, and only then.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::story::{Story, Who, tell};
use crate::support::{Chance, scale, seed};

/// What is there at first. `g0` and `h0` never leave their groups.
const TABLES: &str = "
    create table g0 (id int primary key, v text); create table h0 (id int primary key, v text);
    create table a (id serial primary key, v text);
    create table b (id int primary key, a int references a on delete cascade on update cascade, v text);
    create table c (id int primary key, b int references b deferrable initially deferred, v text);
    create table d (id int primary key, code text unique, v text);
    create table e (id int primary key, d text references d (code) on delete set null, v text);
    create table p (id int, r int, a int, v text, primary key (r, id)) partition by list (r);
    create table p_0 partition of p for values in (0);
    create table p_1 (v text, gone int, a int, r int not null, id int not null); alter table p_1 drop column gone;
    alter table p attach partition p_1 for values in (1);
    alter table p_1 add foreign key (a) references a;
    create table f (id int primary key, v text);
    insert into g0 values (1, 'g'); insert into h0 values (1, 'h');
    insert into a (v) select 'a' from generate_series(1, 6); insert into b select n, n, 'b' from generate_series(1, 5) n;
    insert into c select n, n, 'c' from generate_series(1, 4) n; insert into d select n, 'd' || n, 'd' from generate_series(1, 6) n;
    insert into e select n, 'd' || n, 'e' from generate_series(1, 4) n; insert into p select n, n % 2, n, 'p' from generate_series(1, 6) n;
    insert into f select n, 'f' from generate_series(1, 4) n";

/// Which column of which table refers to which; of partitioned ones in rows with this `r`.
const KEYS: &[(&str, &str, &str, &str, Option<i64>)] = &[
    ("b", "a", "a", "id", None),
    ("c", "b", "b", "id", None),
    ("e", "d", "d", "code", None),
    ("p", "a", "a", "id", Some(1)),
];

const MOVING: &[&str] = &["a", "b", "c", "d", "e", "p", "f"];

/// What an application may say; K and M stand for small numbers, F for what `f` is called now.
const STATEMENTS: &[&str] = &[
    "insert into a (v) values ('K'), ('M')",
    "update a set v = v || 'K' where id in (K, M)",
    "update a set id = id + 20 where id = K",
    "delete from a where id = K",
    "insert into b select K, max(id), 'M' from a where id <= M + 4",
    "update b set a = (select min(id) from a where id >= M) where id = K",
    "update b set id = id + 20 where id = M",
    "delete from b where id = K",
    "insert into c select K, max(id), 'M' from b",
    "update c set b = (select min(id) from b) where id in (K, M)",
    "delete from c where id = K or b = M",
    "truncate c",
    "insert into d values (K, 'dK', 'M')",
    "update d set code = 'x' || id where id = K",
    "update d set v = v || 'M' where id > K",
    "delete from d where id = K",
    "insert into e select K, min(code), 'M' from d where id > 2",
    "update e set d = (select max(code) from d) where id = K",
    "update e set v = v || 'K'",
    "delete from e where id = M",
    "insert into p select K, M % 2, min(id), 'M' from a",
    "update p set r = 1 - r where id in (K, M)",
    "update p set a = (select max(id) from a) where id = K",
    "update p set a = null where id = M",
    "delete from p where id = K",
    "insert into F values (K, 'M')",
    "update F set v = v || 'M' where id >= K",
    "delete from F where id = K",
    "truncate F",
    "update g0 set v = v || 'K'",
    "insert into h0 values (K, 'M')",
];

type Contents = BTreeMap<&'static str, String>;

struct Table {
    /// Its name in this file.
    key: &'static str,
    /// Its name in the database.
    name: &'static str,
    group: Option<&'static str>,
    /// The change of the manifest with which it joined that group.
    since: usize,
}

struct Mark {
    name: String,
    groups: Vec<String>,
    /// The last change of the manifest before it.
    after: usize,
    copy: Contents,
}

struct Machine<'s, 'db> {
    story: &'s mut Story<'db>,
    chance: Chance,
    tables: Vec<Table>,
    /// When something left a group.
    left: Vec<(usize, &'static str)>,
    changes: usize,
    marks: Vec<Mark>,
    count: usize,
    /// What was done, for whoever has to find out.
    told: Vec<String>,
    done: Done,
}

#[derive(Default, Debug)]
struct Done {
    statements: usize,
    manifests: usize,
    whole: usize,
    partial: usize,
    refused: usize,
    orphans: usize,
}

impl Machine<'_, '_> {
    fn begin(&mut self) {
        self.story.sql(TABLES);
        self.install();
        self.mark();
        // One change of which it is certain how it ends, then those by chance.
        self.story
            .sql("update g0 set v = 'x'; update h0 set v = 'x'; update f set v = 'x'");
        self.changes += 1;
        let f = self.tables.last_mut().expect("f");
        (f.group, f.since) = (Some("h"), self.changes);
        self.left.push((self.changes, "g"));
        self.install();
        self.roll_back(0, false, true);
        self.roll_back(0, true, true);
    }

    fn tell(&mut self, what: String) {
        self.told.push(what);
    }

    #[track_caller]
    fn wrong(&self, what: &str) -> ! {
        panic!("{what}\nwhat was done:\n{}", self.told.join(";\n"));
    }

    fn installed(&mut self, what: &str) {
        let list = |group: &'static str, first: &'static str| {
            let of = self.tables.iter().filter(|table| table.group == Some(group));
            let names = of.map(|table| table.name).chain([first]);
            let names: Vec<String> = names.map(|name| format!("{}.{name}", self.story.schema)).collect();
            names.join(", ")
        };
        let manifest = format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups:\n  g: {{ tables: [{}] }}\n  h: {{ tables: [{}] }}\n",
            list("g", "g0"),
            list("h", "h0")
        );
        let groups: Vec<&str> = manifest.lines().skip(3).map(str::trim).collect();
        self.told.push(format!("-- {what}: {}", groups.join("; ")));
        let run = self.story.install_manifest(&manifest);
        if run.status != Some(0) {
            self.wrong(&format!("{run}"));
        }
        self.done.manifests += 1;
    }

    /// Installs where the tables belong now.
    fn install(&mut self) {
        self.installed("install");
    }

    /// Moves some tables.
    fn regroup(&mut self) {
        self.changes += 1;
        for at in 0..self.tables.len() {
            if !self.chance.happens(25) {
                continue;
            }
            let to = *self.chance.pick(&[None, Some("g"), Some("h")]);
            let table = &mut self.tables[at];
            if table.group != to {
                self.left.extend(table.group.map(|group| (self.changes, group)));
                table.group = to;
                table.since = self.changes;
            }
        }
        self.install();
    }

    /// `f` gets another name, or is dropped and made anew.
    fn another_f(&mut self) {
        let at = self.tables.len() - 1;
        let was = self.tables[at].name;
        let name = if was == "f" { "f_too" } else { "f" };
        if self.chance.happens(50) {
            self.told.push(format!("alter table {was} rename to {name}"));
            self.story.sql(&format!("alter table {was} rename to {name}"));
        } else {
            if self.tables[at].group.is_some() {
                let whole = format!("{}.{was}", self.story.schema);
                self.story.emaj(&["release", &whole, "--yes"]).ok();
            }
            let anew = format!(
                "drop table {was}; create table {name} (id int primary key, v text); insert into {name} values (1, 'anew')"
            );
            self.story.sql(&anew);
            self.told.push(format!("-- release {was}; {anew}"));
            self.changes += 1;
            self.left
                .extend(self.tables[at].group.map(|group| (self.changes, group)));
            self.tables[at].since = self.changes;
        }
        self.tables[at].name = name;
        self.install();
    }

    fn say(&mut self) {
        let (k, m) = (1 + self.chance.below(8), 1 + self.chance.below(8));
        let name = self.tables.last().expect("f").name;
        let sql = self
            .chance
            .pick(STATEMENTS)
            .replace('K', &k.to_string())
            .replace('M', &m.to_string())
            .replace('F', name);
        self.done.statements += 1;
        if let Err(error) = self.story.client.batch_execute(&sql) {
            let code = error.code().map_or("none", |code| code.code()).to_owned();
            // Keys are the application's affair.
            if !code.starts_with("23") {
                self.wrong(&format!("`{sql}` failed: {error:?}"));
            }
        } else {
            self.told.push(sql);
        }
    }

    /// All rows of every table, as JSON, and where the sequence of `a` stands.
    fn contents(&mut self) -> Contents {
        let mut contents = Contents::new();
        let fixed = [("g0", "g0"), ("h0", "h0")];
        let names: Vec<(&str, &str)> = self
            .tables
            .iter()
            .map(|table| (table.key, table.name))
            .chain(fixed)
            .collect();
        for (key, name) in names {
            let rows = self.story.ask(&format!(
                "select to_jsonb(x) from {name} x order by to_jsonb(x)::text collate \"C\""
            ));
            contents.insert(key, rows);
        }
        let sequence = self.story.ask("select last_value || ' ' || is_called from a_id_seq");
        contents.insert("a_id_seq", sequence);
        contents
    }

    fn mark(&mut self) {
        self.count += 1;
        let name = format!("m{}", self.count);
        self.told
            .push(format!("select emaj.emaj_set_mark_groups('{{g,h}}', '{name}')"));
        self.story
            .sql(&format!("select emaj.emaj_set_mark_groups('{{g,h}}', '{name}')"));
        self.note(name, vec!["g".to_owned(), "h".to_owned()], None);
    }

    fn note(&mut self, name: String, groups: Vec<String>, copy: Option<Contents>) {
        let copy = copy.unwrap_or_else(|| self.contents());
        self.marks.push(Mark {
            name,
            groups,
            after: self.changes,
            copy,
        });
    }

    /// Forgets the marks that are gone.
    fn forget(&mut self) {
        let there = self
            .story
            .ask("select mark_group || ' ' || mark_name from emaj.emaj_mark where mark_state = 'ACTIVE'");
        let there: Vec<&str> = there.lines().collect();
        for mark in &mut self.marks {
            mark.groups
                .retain(|group| there.contains(&format!("{group} {}", mark.name).as_str()));
        }
        self.marks.retain(|mark| !mark.groups.is_empty());
    }

    /// Rolls back to one of the marks, some or all of its groups, and holds the outcome against the model.
    fn roll_back(&mut self, at: usize, partial: bool, logged: bool) {
        let (all, after, name) = {
            let mark = &self.marks[at];
            (mark.groups.clone(), mark.after, mark.name.clone())
        };
        let groups = if all.len() > 1 && self.chance.happens(40) {
            all
        } else {
            vec![self.chance.pick(&all).clone()]
        };
        let within = |group: &str| groups.iter().any(|one| one == group);
        let goes = |table: &Table| table.group.is_some_and(within) && table.since <= after;
        let came = |table: &Table| table.group.is_some_and(within) && table.since > after;
        let changed =
            self.tables.iter().any(came) || self.left.iter().any(|(when, group)| *when > after && within(group));
        let before = self.contents();
        let mut wanted = before.clone();
        let mut back: Vec<&'static str> = self
            .tables
            .iter()
            .filter(|table| goes(table))
            .map(|table| table.key)
            .collect();
        back.extend(
            [("g0", "g"), ("h0", "h")]
                .iter()
                .filter(|(_, group)| within(group))
                .map(|(key, _)| *key),
        );
        if back.contains(&"a") {
            back.push("a_id_seq");
        }
        for key in &back {
            wanted.insert(key, self.marks[at].copy[key].clone());
        }
        let function = if logged {
            "emaj_logged_rollback_groups"
        } else {
            "emaj_rollback_groups"
        };
        let sql = format!(
            "select emaj.{function}('{{{}}}', '{name}', {partial})",
            groups.join(",")
        );
        let outcome = if self.chance.happens(85) {
            self.told.push(sql.clone());
            self.story.client.batch_execute(&sql).err().map(|error| {
                let db = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
                (db.code().code().to_owned(), db.message().to_owned())
            })
        } else {
            self.by_program(&groups, &name, partial, logged)
        };
        let now = self.contents();
        if changed && !partial {
            let refused = matches!(&outcome, Some((code, said)) if code == "EJ001" && said.contains("has changed"));
            if !refused || now != before {
                self.wrong(&format!("not refused as it should be: {outcome:?}"));
            }
            self.done.refused += 1;
            return;
        }
        let orphans: Vec<_> = KEYS.iter().filter(|key| has_orphans(&wanted, key)).collect();
        if orphans.is_empty() {
            if let Some(said) = outcome {
                self.wrong(&format!("refused without a reason: {said:?}"));
            }
            if now != wanted {
                self.wrong(&format!(
                    "{back:?} should be as at {name}\nfound {now:#?}\nwanted {wanted:#?}"
                ));
            }
            if changed {
                self.done.partial += 1;
            } else {
                self.done.whole += 1;
            }
        } else {
            // Of what is in neither group the server itself says it; what is left is said before.
            let left = |key: &str| self.tables.iter().any(|table| table.key == key && came(table));
            let beforehand = partial
                && orphans
                    .iter()
                    .any(|key| left(key.0) && back.contains(&key.2) || left(key.2) && back.contains(&key.0));
            let right = matches!(&outcome, Some((code, said)) if code == "EJ001" && said.contains("would not hold") || !beforehand && code == "23503");
            if !right || now != before {
                self.wrong(&format!(
                    "{orphans:?} would not hold, and that is not said: {outcome:?}"
                ));
            }
            self.done.orphans += 1;
            return;
        }
        if logged {
            for (end, copy) in [("START", before), ("DONE", now)] {
                let mark = self.story.ask(&format!(
                    "select mark_name from emaj.emaj_mark where mark_group = '{}' and mark_name like 'RLBK%{end}' order by mark_id desc limit 1",
                    groups[0]
                ));
                self.note(mark, groups.clone(), Some(copy));
            }
        }
        self.forget();
    }

    /// Has the program roll back, in two sessions; returns what it was refused for, if it was.
    fn by_program(&mut self, groups: &[String], mark: &str, partial: bool, logged: bool) -> Option<(String, String)> {
        let mut words = vec!["rollback", &groups[0], mark, "--yes", "--jobs", "2"];
        words.extend(groups.iter().skip(1).flat_map(|group| ["--with", group]));
        words.extend(partial.then_some("--partial"));
        words.extend((!logged).then_some("--unlogged"));
        self.told.push(format!("-- emaj {}", words.join(" ")));
        let run = self.story.emaj(&words);
        match run.status {
            Some(0) => None,
            Some(4) if run.stderr.contains("violates foreign key") => Some(("23503".to_owned(), run.stderr)),
            Some(4) => Some(("EJ001".to_owned(), run.stderr)),
            _ => Some(("another".to_owned(), run.stderr)),
        }
    }

    /// Makes one logged rollback an unlogged one; what is there does not change, and no mark that is left means anything else.
    fn consolidate(&mut self) {
        let before = self.contents();
        let one = self.story.ask("select format('select emaj.emaj_consolidate_rollback_group(%L, %L)', cons_group, cons_end_rlbk_mark_name) from emaj.emaj_get_consolidable_rollbacks() limit 1");
        if one.is_empty() {
            return;
        }
        self.tell(one.clone());
        self.story.sql(&one);
        if self.contents() != before {
            self.wrong("a consolidation has changed rows");
        }
        self.forget();
    }

    fn step(&mut self) {
        match self.chance.below(20) {
            0..=8 => {
                for _ in 0..1 + self.chance.below(8) {
                    self.say();
                }
            }
            9..=10 => self.mark(),
            11..=13 => self.regroup(),
            14 => self.another_f(),
            15 => self.consolidate(),
            _ => {
                let at = self.chance.below(self.marks.len());
                let (partial, logged) = (self.chance.happens(75), self.chance.happens(60));
                self.roll_back(at, partial, logged);
            }
        }
    }

    fn end(&mut self) {
        while let Some(at) = self.marks.len().checked_sub(1) {
            let left = self.marks.len();
            self.roll_back(at, true, false);
            // Refused, or of one group only: on with the one before.
            if self.marks.len() == left {
                self.marks.pop();
            }
        }
        let verified = self.story.ask("select emaj.emaj_verify_all()");
        if verified != "No error detected" {
            self.wrong(&verified);
        }
        let plan = self.story.emaj(&["plan", "--detailed-exitcode"]);
        if plan.status != Some(0) {
            self.wrong(&plan.to_string());
        }
    }
}

/// Whether a row of the child refers to a row of the parent that is not there.
fn has_orphans(contents: &Contents, key: &(&str, &str, &str, &str, Option<i64>)) -> bool {
    let (child, column, parent, to, part) = key;
    let rows = |table: &str| -> Vec<Value> {
        contents[table]
            .lines()
            .map(|line| serde_json::from_str(line).expect("a row"))
            .collect()
    };
    let there: Vec<Value> = rows(parent).into_iter().map(|row| row[to].clone()).collect();
    rows(child)
        .iter()
        .filter(|row| part.is_none_or(|part| row["r"] == part))
        .any(|row| !row[column].is_null() && !there.contains(&row[column]))
}

/// One program, in a database of its own.
fn program(who: Who, seed: u64, steps: usize) -> Done {
    let mut done = Done::default();
    tell(who, |story| {
        let table = |key: &&'static str| Table {
            key,
            name: key,
            group: Some(if matches!(*key, "e" | "p") { "h" } else { "g" }),
            since: 0,
        };
        let mut machine = Machine {
            story,
            chance: Chance::new(seed),
            tables: MOVING.iter().map(table).collect(),
            left: Vec::new(),
            changes: 0,
            marks: Vec::new(),
            count: 0,
            told: vec![format!("-- seed {seed}, {who:?}")],
            done: Done::default(),
        };
        machine.begin();
        for _ in 0..steps {
            machine.step();
        }
        machine.end();
        done = machine.done;
    });
    done
}

fn programs(who: Who) {
    let seed = seed();
    let mut all = Done::default();
    for number in 0..scale(2) {
        let own = seed.wrapping_add(1000 * number as u64 + u64::from(who == Who::Owner));
        let done = program(who, own, 25);
        all.statements += done.statements;
        all.manifests += done.manifests;
        all.whole += done.whole;
        all.partial += done.partial;
        all.refused += done.refused;
        all.orphans += done.orphans;
    }
    println!("changing groups as {who:?}: {all:?} (seed {seed})");
    assert!(all.partial > 0 && all.refused > 0, "{all:?}");
}

#[test]
fn any_program_across_any_change_of_the_manifest_as_superuser() {
    programs(Who::Superuser);
}

#[test]
fn any_program_across_any_change_of_the_manifest_as_an_ordinary_owner() {
    programs(Who::Owner);
}
