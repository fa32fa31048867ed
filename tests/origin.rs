//! An installation that is not where it was made: a dump restored, a database copied. Every command that relies on transaction numbers
//! refuses, the repair is shown and done, and what begins anew is exact.

use std::path::Path;
use std::process::Command;

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};

use crate::support::{self, Emaj, Run};

const MANIFEST: &str = "
version: 1
roles: { admin: null, viewer: null }
groups:
  g: { tables: [shop.*] }
sinks:
  lines: { file: { path: out.ndjson } }
bindings:
  trail: { table: shop.item, to: lines, message: {} }
  told: { table: shop.item, notify: { channel: items, payload: \"{{ row.id }}\" } }
";

const TABLES: &str = "create schema shop;
    create table shop.item (id int primary key, name text not null);
    create table shop.part (id int, r int, v text, primary key (id, r)) partition by list (r);
    create table shop.part_0 partition of shop.part for values in (0);
    create table shop.part_1 partition of shop.part for values in (1);
    insert into shop.item values (1, 'one'), (2, 'two'); insert into shop.part values (1, 0, 'a'), (2, 1, 'b')";

/// A database, and the folder that `emaj` runs in.
pub struct Place<'a> {
    pub cluster: &'a Cluster,
    pub name: String,
    pub directory: &'a Path,
}

impl Place<'_> {
    pub fn emaj(&self, args: &[&str]) -> Run {
        self.prepare(args).run()
    }

    fn prepare(&self, args: &[&str]) -> Emaj {
        support::emaj_alone(self.directory)
            .envs(self.cluster.env(&self.name))
            .args(args)
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.cluster.conninfo(&self.name), NoTls).expect("a session")
    }

    pub fn sql(&self, sql: &str) {
        self.client()
            .batch_execute(sql)
            .unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
    }

    pub fn ask(&self, sql: &str) -> String {
        let row = self.client().query_one(&format!("select ({sql})::text"), &[]);
        let row = row.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    /// Rows of the application, as text.
    pub fn rows(&self) -> String {
        self.ask("select string_agg(t, E'\\n' order by t) from (select i::text from shop.item i union all select p::text from shop.part p) as rows(t)")
    }

    fn dump(&self, options: &[&str]) -> String {
        support::dump(self.cluster, &self.cluster.conninfo(&self.name), options)
    }

    fn restore(&self, dump: &str) {
        let file = self.directory.join("dump.sql");
        std::fs::write(&file, dump).unwrap();
        let output = Command::new(self.cluster.bindir().join("psql"))
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &self.cluster.conninfo(&self.name),
                "-f",
            ])
            .arg(&file)
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Installed, with a mark `m`, and changes before and after it; what was before it is delivered.
    pub fn begin(&self) {
        self.sql(TABLES);
        std::fs::write(self.directory.join("emaj.yaml"), MANIFEST).unwrap();
        self.emaj(&["install"]).ok();
        self.sql("insert into shop.item values (3, 'three')");
        self.emaj(&["run", "--until-empty"]).ok();
        self.emaj(&["mark", "set", "g", "m"]).ok();
        self.sql("update shop.item set name = 'changed'; delete from shop.part where id = 1");
    }

    /// Sets a mark, changes rows, and rolls back to it: every row is as it was.
    pub fn there_and_back(&self) {
        self.emaj(&["mark", "set", "g", "here"]).ok();
        let before = self.rows();
        self.sql("update shop.item set name = name || '!'; insert into shop.part values (7, 0, 'x'), (8, 1, 'y'); delete from shop.item where id = 1");
        assert_ne!(self.rows(), before);
        self.emaj(&["rollback", "g", "here", "--yes"]).ok();
        assert_eq!(self.rows(), before);
    }

    /// No pattern takes in what is emaj's, under whatever name, nor a temporary table; and who names one of them is told what it is.
    #[track_caller]
    fn takes_no_schema_of_emaj(&self) {
        let manifest = |name: &str, schema: &str, group: &str| {
            let text = format!(
                "version: 1\nname: {name}\nschema: {schema}\nroles: {{ admin: null, viewer: null }}\ngroups:\n  of_{name}: {{ {group} }}\n"
            );
            std::fs::write(self.directory.join(format!("{name}.yaml")), text).expect("a manifest");
        };
        self.sql("alter schema emaj_old rename to \"kept since\"; create schema beside; create table beside.t (id serial primary key)");
        manifest("beside", "emaj_second", "tables: [beside.*]");
        self.emaj(&["install", "beside.yaml"]).ok();
        let mut session = self.client();
        session
            .batch_execute("create temp table passing (id serial primary key)")
            .expect("a temporary table");
        for sequences in ["all", "['*.*', '!beside.*']"] {
            manifest(
                "all",
                "emaj",
                &format!("tables: ['*.*', '!beside.*'], sequences: {sequences}"),
            );
            self.emaj(&["install", "all.yaml"]).ok();
            let captured =
                "select string_agg(distinct rel_schema, ',') from emaj.emaj_relation where rel_ended is null";
            assert_eq!(self.ask(captured), "shop", "sequences: {sequences}");
            self.emaj(&["uninstall", "all.yaml", "--yes"]).ok();
        }
        for (name, part) in [
            (
                "'\"kept since\".emaj_mark'",
                "table \"kept since\".emaj_mark is emaj's own",
            ),
            ("'\"kept since\".nothing'", "table \"kept since\".nothing is emaj's own"),
            (
                "emaj_second.beside_t_log",
                "table emaj_second.beside_t_log is emaj's own",
            ),
            ("pg_temp.passing", "table pg_temp.passing is temporary"),
            ("pg_catalog.pg_class", "table pg_catalog.pg_class is PostgreSQL's own"),
        ] {
            manifest("all", "emaj", &format!("tables: [shop.item, {name}]"));
            let run = self.emaj(&["plan", "all.yaml"]).code(65);
            assert!(run.stderr.contains(part), "`{part}` was not said: {run}");
        }
        manifest(
            "all",
            "emaj",
            "tables: [shop.item], sequences: [emaj_second.emaj_mark_mark_id_seq]",
        );
        let run = self.emaj(&["plan", "all.yaml"]).code(65);
        let part = "sequence emaj_second.emaj_mark_mark_id_seq is emaj's own";
        assert!(run.stderr.contains(part), "{run}");
        self.emaj(&["uninstall", "beside.yaml", "--yes"]).ok();
        self.sql("alter schema \"kept since\" rename to emaj_old; drop schema beside cascade");
    }

    fn lines(&self) -> usize {
        let text = std::fs::read_to_string(self.directory.join("out.ndjson")).unwrap_or_default();
        text.lines().count()
    }

    /// Every command that relies on transaction numbers says no, and why, and what to do.
    #[track_caller]
    fn refuses(&self, problem: &str) {
        let everything = || {
            self.ask("select string_agg(t, ' ' order by t) from (select m::text from emaj.emaj_mark m union all select s::text from emaj.emaj_sink s union all select g::text from emaj.emaj_group g) as all_rows(t)")
                + &self.rows()
        };
        let (before, lines) = (everything(), self.lines());
        for args in [
            &["mark", "set", "g", "x"][..],
            &["rollback", "g", "m", "--yes"],
            &["rollback", "g", "m", "--dry-run"],
            &["revert", "g", "--from", "m", "--user", "postgres", "--yes"],
            &["at", "g", "m", "select * from shop.item"],
            &["run", "--until-empty"],
            &["init"],
            &["init", "--dry-run"],
            &["install"],
            &["plan"],
            &["group", "purge", "g"],
            &["mark", "delete", "g", "m"],
            &["top", "--interval", "100ms", "--count", "1"],
            &[
                "revert",
                "g",
                "--from",
                "m",
                "--table",
                "shop.item",
                "--key",
                "id=1",
                "--yes",
            ],
            &["changes", "g", "--from", "m", "-o", "sql"],
            &["snap", "g", "--dir", "snapped"],
            &["group", "stop", "g"],
            &["group", "reset", "g"],
            &["group", "drop", "g", "--yes"],
            &["group", "protect", "g"],
            &["mark", "rename", "g", "m", "n"],
            &["mark", "protect", "g", "m"],
            &["release", "shop.item", "--yes"],
            &["replay", "lines", "--from", "m", "--yes"],
            &["sink", "pause", "lines"],
            &["sink", "resume", "lines"],
            &["failures", "retry", "--all"],
            &["failures", "discard", "--all", "--yes"],
        ] {
            let run = self.emaj(args);
            assert!(
                run.status == Some(4) && run.stderr.contains(problem),
                "not refused because of `{problem}`: {run}"
            );
            assert!(run.stderr.contains("emaj verify --repair"), "{run}");
        }
        assert_eq!((&everything(), self.lines()), (&before, lines), "something was changed");
        let verify = self.emaj(&["verify", "-o", "json"]).code(6).stdout_json();
        assert_eq!(verify.as_array().map(Vec::len), Some(1), "{verify}");
        assert!(verify[0]["repair"].as_str().unwrap().contains("emaj verify --repair"));
        let doctor = self.emaj(&["doctor"]).code(12);
        assert!(doctor.stdout.contains("emaj verify --repair"), "{doctor}");
        let asked = self.emaj(&["verify", "--repair"]).code(4);
        assert!(asked.stderr.contains("`--yes`"), "{asked}");
        self.emaj(&["verify", "--repair", "--dry-run"]).ok();
        assert_eq!(everything(), before, "something was changed without a yes");
        for call in [
            "emaj_rollback_tables(array['g'], 'm')",
            "emaj_estimate_rollback_group('g', 'm')",
        ] {
            let refused = self.client().batch_execute(&format!("select emaj.{call}")).unwrap_err();
            let said = refused.as_db_error().unwrap().message().to_owned();
            assert!(said.contains(problem), "{call}: {said}");
        }
        // History stays readable, and the application writes. What the group holds is said as the registry knows it.
        let shown = self.emaj(&["group", "show", "g"]).ok().stdout;
        assert!(shown.contains("shop.item") && !shown.contains("(gone)"), "{shown}");
        assert!(self.emaj(&["mark", "list", "g"]).ok().stdout.contains('m'));
        let stat = self.emaj(&["stat", "g", "--from", "m"]).ok();
        let warned = format!("warning: what is counted may be wrong: {problem}");
        assert!(
            stat.stderr.contains(&warned) && stat.stderr.contains("emaj verify --repair"),
            "{stat}"
        );
        if problem.contains("restored copy") {
            for counted in ["emaj_log_stat_group", "emaj_detailed_log_stat_group"] {
                let exact = self.ask(&format!(
                    "select bool_or(stat_exact) from emaj.{counted}('g', 'm', null)"
                ));
                assert_eq!(exact, "false", "{counted}");
            }
            assert!(stat.stdout.contains('≈') && !stat.to_string().contains('≥'), "{stat}");
            assert_eq!(self.ask("select emaj.emaj_count_group('g')"), "0");
        }
        self.emaj(&["history"]).ok();
        self.emaj(&["failures", "list"]).ok();
        self.emaj(&["sink", "list"]).ok();
        self.sql("insert into shop.item values (50, 'later'); delete from shop.item where id = 50");
    }

    /// After the old installation was archived or dropped.
    fn begins_anew(&self, lines: usize) {
        assert_eq!(
            self.ask("select count(*) from pg_trigger where tgname like '%emaj%'"),
            "0"
        );
        self.emaj(&["mark", "set", "g", "x"]).code(10);
        self.sql("insert into shop.item values (60, 'unseen'); delete from shop.item where id = 60");
        self.emaj(&["install"]).ok();
        self.there_and_back();
        self.emaj(&["init"]).ok();
        self.emaj(&["run", "--until-empty"]).ok();
        assert!(self.lines() >= lines + 3, "the rows that are there were not sent");
        self.emaj(&["verify"]).ok();
        self.emaj(&["uninstall", "--yes"]).ok();
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_dump_in_another_cluster_is_archived() {
    let (old, here, there) = (support::database(), folder(), folder());
    let first = Place {
        cluster: support::shared_cluster(),
        name: old.name().to_owned(),
        directory: here.path(),
    };
    let other = Cluster::builder().start().unwrap();
    let copy = Place {
        cluster: &other,
        name: "postgres".to_owned(),
        directory: there.path(),
    };
    first.begin();
    std::fs::write(copy.directory.join("emaj.yaml"), MANIFEST).unwrap();
    copy.restore(&first.dump(&[]));
    assert_eq!(copy.rows(), first.rows());
    let logged = "select count(*) from emaj.shop_item_log";
    assert_eq!(copy.ask(logged), first.ask(logged));

    copy.refuses("this database is a restored copy");
    // What has the oids of the registry here is not what is meant.
    copy.sql(
        "update emaj.emaj_relation set rel_oid = 1 where rel_name = 'part';
         update emaj.emaj_relation set rel_oid = 'shop.part'::regclass where rel_name = 'item';
         update emaj.emaj_relation set rel_oid = 'shop.item'::regclass where rel_name = 'part'",
    );
    for how in [&[][..], &["--detailed"], &["--intervals"]] {
        let wanted = ["stat", "g", "--from", "m", "--table", "shop.part", "-o", "json"];
        let [mut there, here] = [&first, &copy].map(|place| place.emaj(&[&wanted, how].concat()).ok().stdout_json());
        there[0]["exact"] = false.into();
        assert_eq!(there, here, "{how:?}");
        assert_eq!(here.as_array().map(Vec::len), Some(1), "{how:?}");
    }
    let logged = copy.ask(logged);
    let run = copy.emaj(&["verify", "--repair", "--yes"]).ok();
    assert!(run.stderr.contains("`emaj install` begins anew"), "{run}");
    assert_eq!(copy.ask("select count(*) from emaj_old.shop_item_log"), logged);
    assert_eq!(
        copy.ask("select string_agg(mark_name, ',') from emaj_old.emaj_mark where mark_name = 'm'"),
        "m"
    );
    assert_eq!(
        copy.ask("select count(*) from pg_proc where pronamespace = 'emaj_old'::regnamespace"),
        "0"
    );
    copy.takes_no_schema_of_emaj();
    copy.begins_anew(0);
    copy.sql("drop schema emaj_old cascade");
    // Nothing of it is left: as an application without emaj.
    let plain = support::database();
    let bare = Place {
        cluster: support::shared_cluster(),
        name: plain.name().to_owned(),
        directory: here.path(),
    };
    bare.sql(TABLES);
    support::story::same(&copy.dump(&["-s"]), &bare.dump(&["-s"]), "after uninstall");
}

#[test]
fn a_dump_without_data_is_told_and_taken_away() {
    let (old, new, here, there) = (support::database(), support::database(), folder(), folder());
    let place = |name: &str, directory| Place {
        cluster: support::shared_cluster(),
        name: name.to_owned(),
        directory,
    };
    let (first, copy) = (place(old.name(), here.path()), place(new.name(), there.path()));
    first.begin();
    std::fs::write(copy.directory.join("emaj.yaml"), MANIFEST).unwrap();
    copy.restore(&first.dump(&["-s"]));
    for args in [&["plan"][..], &["install"], &["install", "--allow-destroy"], &["drift"]] {
        let run = copy.emaj(args).code(4);
        assert!(
            run.stderr.contains("the registry in schema emaj is empty") && run.stderr.contains("`emaj uninstall`"),
            "{run}"
        );
    }
    let run = copy.emaj(&["verify"]).code(4);
    assert!(run.stderr.contains("a dump without data"), "{run}");
    let run = copy.emaj(&["doctor"]).code(12);
    assert!(
        run.stdout.contains("a dump without data") && !run.stdout.contains("were written here"),
        "{run}"
    );
    // Not where somebody's own objects or rows would go with it.
    copy.sql("create table emaj.mine (x int); create function emaj.mine() returns int language sql as 'select 1'; create view emaj.own as select 1 as x");
    let run = copy.emaj(&["uninstall", "--yes"]).code(4);
    assert!(
        run.stderr
            .contains("function emaj.mine(), table emaj.mine, view emaj.own"),
        "{run}"
    );
    copy.sql(
        "drop view emaj.own; drop function emaj.mine(); drop table emaj.mine;
         insert into emaj.shop_item_log (emaj_gid, emaj_txid, emaj_changed, emaj_verb, emaj_tuple, emaj_user, id, name)
         values ('0/0', 1, now(), 'INS', 'NEW', 'x', 1, 'x')",
    );
    let run = copy.emaj(&["uninstall", "--yes"]).code(4);
    assert!(run.stderr.contains("hold rows: emaj.shop_item_log"), "{run}");
    copy.sql("truncate emaj.shop_item_log");
    copy.sql("create view shop.trail as select * from emaj.shop_item_log");
    let run = copy.emaj(&["uninstall", "--yes"]);
    assert!(
        run.status != Some(0) && run.stderr.contains("drop what depends on it"),
        "{run}"
    );
    copy.sql("drop view shop.trail");
    let run = copy.emaj(&["uninstall", "--dry-run"]).ok();
    assert!(run.stdout.contains("its registry is empty"), "{run}");
    copy.emaj(&["uninstall", "--yes"]).ok();
    let bare = support::database();
    let bare = place(bare.name(), here.path());
    bare.sql(TABLES);
    support::story::same(&copy.dump(&["-s"]), &bare.dump(&["-s"]), "after uninstall");
    copy.emaj(&["install"]).ok();
    copy.there_and_back();
}

#[test]
fn a_dump_in_the_same_cluster_can_be_dropped() {
    let (old, new, here, there) = (support::database(), support::database(), folder(), folder());
    let place = |name: &str, directory| Place {
        cluster: support::shared_cluster(),
        name: name.to_owned(),
        directory,
    };
    let (first, copy) = (place(old.name(), here.path()), place(new.name(), there.path()));
    first.begin();
    std::fs::write(copy.directory.join("emaj.yaml"), MANIFEST).unwrap();
    copy.restore(&first.dump(&[]));
    copy.refuses("this database is a restored copy");
    copy.emaj(&["verify", "--repair", "--drop-old", "--yes"]).ok();
    assert_eq!(
        copy.ask("select count(*) from pg_namespace where nspname like 'emaj%'"),
        "0"
    );
    copy.begins_anew(0);
    // The first one goes on, and says that nothing is for the repair.
    first.emaj(&["verify", "--repair"]).ok();
    first.there_and_back();
    first.emaj(&["rollback", "g", "m", "--yes"]).ok();
    assert_eq!(first.ask("select count(*) from shop.item where name = 'changed'"), "0");
}

/// Everything else is as it was: cluster, database, names. The rows are not the ones that were written.
#[test]
fn a_dump_over_its_own_database_is_told() {
    let (old, here) = (support::database(), folder());
    let place = Place {
        cluster: support::shared_cluster(),
        name: old.name().to_owned(),
        directory: here.path(),
    };
    place.begin();
    let dump = place.dump(&[]);
    place.sql("drop schema emaj cascade; drop schema shop cascade");
    place.restore(&dump);
    place.refuses("this database is a restored copy");
    place.emaj(&["verify", "--repair", "--yes"]).ok();
    // The file says which installation it belongs to.
    let refused = {
        place.emaj(&["install"]).ok();
        place.emaj(&["init"]).code(13)
    };
    assert!(refused.stderr.contains("give this sink another file"), "{refused}");
    place.emaj(&["uninstall", "--yes"]).ok();
    std::fs::remove_file(here.path().join("out.ndjson")).unwrap();
    std::fs::remove_file(here.path().join("out.ndjson.emaj")).unwrap();
    place.begins_anew(0);
}

#[test]
fn a_copy_of_what_a_torn_rollback_left_is_repaired() {
    let (old, here) = (support::database(), folder());
    let place = |name: &str| Place {
        cluster: support::shared_cluster(),
        name: name.to_owned(),
        directory: here.path(),
    };
    let first = place(old.name());
    first.begin();
    first.emaj(&["rollback", "g", "m", "--yes"]).ok();
    first.sql("update emaj.emaj_rollback set rlbk_state = 'BROKEN', rlbk_torn = 'half of it is missing'");
    let new = support::database();
    let copy = place(new.name());
    place("postgres").sql(&format!("drop database {0}", copy.name));
    place("postgres").sql(&format!("create database {} template {}", copy.name, first.name));
    let verify = copy.emaj(&["verify"]).code(6);
    assert!(verify.to_string().contains("emaj verify --repair"), "{verify}");
    copy.emaj(&["verify", "--repair", "--yes"]).ok();
    let verify = copy.emaj(&["verify"]).code(6);
    assert!(verify.to_string().contains("half of it is missing"), "{verify}");
    copy.emaj(&["rollback", "g", "m", "--yes"]).ok();
    assert_eq!(copy.ask("select torn_id from emaj.emaj_torn_rollbacks()"), "");
}

#[test]
fn a_copy_by_template_keeps_its_marks_and_delivers_nothing_twice() {
    let (old, here, there) = (support::database(), folder(), folder());
    let cluster = support::shared_cluster();
    let place = |name: &str, directory| Place {
        cluster,
        name: name.to_owned(),
        directory,
    };
    let first = place(old.name(), here.path());
    first.begin();
    let new = support::database();
    let copy = place(new.name(), there.path());
    place("postgres", here.path()).sql(&format!("drop database {0}", copy.name));
    place("postgres", here.path()).sql(&format!("create database {} template {}", copy.name, first.name));
    std::fs::write(copy.directory.join("emaj.yaml"), MANIFEST).unwrap();
    let at_mark = "(1,one)\n(1,0,a)\n(2,1,b)\n(2,two)\n(3,three)";
    copy.refuses("this database was made as a copy of another one");
    copy.emaj(&["verify", "--repair", "--yes"]).ok();
    copy.emaj(&["verify"]).code(6);
    assert_eq!(
        copy.ask("select string_agg(sink_state, ',') from emaj.emaj_sink"),
        "LOST"
    );
    // What the first one has still to deliver, the copy does not.
    copy.emaj(&["run", "--until-empty"]);
    assert_eq!(copy.lines(), 0);
    copy.there_and_back();
    copy.emaj(&["rollback", "g", "m", "--yes"]).ok();
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&copy.rows()), sorted(at_mark));
    copy.emaj(&["init"]).ok();
    assert_eq!(copy.lines(), 3, "the rows that are there, once");
    copy.emaj(&["verify"]).ok();
    let source = |place: &Place<'_>| place.ask("select install_name from emaj.emaj_install");
    assert_ne!(source(&copy), source(&first));
    copy.emaj(&["uninstall", "--yes"]).ok();

    first.emaj(&["run", "--until-empty"]).ok();
    assert!(first.lines() > 1);
    first.emaj(&["rollback", "g", "m", "--yes"]).ok();
    assert_eq!(sorted(&first.rows()), sorted(at_mark));
}

/// What the server does to its files by itself takes nothing home away.
#[test]
fn upkeep_of_the_registry_changes_nothing() {
    let (old, here) = (support::database(), folder());
    let place = Place {
        cluster: support::shared_cluster(),
        name: old.name().to_owned(),
        directory: here.path(),
    };
    place.begin();
    place.sql("vacuum (full, freeze) emaj.emaj_seal");
    place.sql("vacuum (full, freeze)");
    assert_eq!(place.ask("select origin from emaj.emaj_origin()"), "home");
    place.sql(&format!("alter database {} set application_name = 'x'", place.name));
    place.there_and_back();
    place.sql("update emaj.emaj_seal set seal_one = true");
    assert_eq!(place.ask("select origin from emaj.emaj_origin()"), "restored");
    place.sql("delete from emaj.emaj_install");
    assert_eq!(place.ask("select origin from emaj.emaj_origin()"), "restored");
}

#[test]
fn a_dump_without_the_rows_of_one_table_is_not_taken_for_an_empty_one() {
    let (old, new, here, there) = (support::database(), support::database(), folder(), folder());
    let place = |name: &str, directory| Place {
        cluster: support::shared_cluster(),
        name: name.to_owned(),
        directory,
    };
    let (first, copy) = (place(old.name(), here.path()), place(new.name(), there.path()));
    first.begin();
    std::fs::write(copy.directory.join("emaj.yaml"), MANIFEST).unwrap();
    copy.restore(&first.dump(&["--exclude-table-data=emaj.emaj_install"]));
    let held = copy.dump(&[]);
    for args in [
        &["plan"][..],
        &["install"],
        &["verify"],
        &["verify", "--repair", "--yes"],
        &["uninstall", "--yes"],
        &["uninstall", "--all", "--yes"],
    ] {
        let run = copy.emaj(args).code(4);
        assert!(
            run.stderr.contains("restored in part: emaj_install is empty")
                && run.stderr.contains("emaj_group, emaj_relation"),
            "{args:?}: {run}"
        );
    }
    support::story::same(&copy.dump(&[]), &held, "after all refusals");
}
