//! Many tables: what is asked of all of them reads no catalogue as a whole for each.

use postgres::Client;

use crate::support;

const MANIFEST: &str = "version: 1\nname: many\nroles: { admin: null, viewer: null }\ngroups: { many: { tables: [many.*], sequences: none } }\n";

/// Makes tables, each in a transaction of its own: their locks are not to fill the table either.
fn make(client: &mut Client, tables: std::ops::RangeInclusive<usize>) {
    client.batch_execute("create schema if not exists many").unwrap();
    for number in tables {
        let table = format!("create table many.t{number} (id int primary key, v text)");
        client.batch_execute(&table).unwrap();
    }
}

#[test]
fn what_is_asked_of_each_log_reads_the_catalogue_by_an_index() {
    const TABLES: i64 = 60;
    let db = support::database();
    let mut client = db.client();
    make(&mut client, 1..=60);
    db.file("emaj.yaml", MANIFEST);
    support::emaj(&db).args(["install"]).run().ok();
    let classes: i64 = client.query_one("select count(*) from pg_class", &[]).unwrap().get(0);
    for call in [
        "emaj._verify_objects()",
        "emaj._drift(array['many'])",
        "emaj._logs_size('many', null)",
        "emaj.emaj_purge_group('many')",
        "emaj.emaj_stop_group('many')",
        "emaj._drop('many', true)",
    ] {
        let mut transaction = client.transaction().unwrap();
        // (A catalogue as small as this one would be read as a whole even where an index serves.)
        let asked = format!("set local enable_seqscan = off; select * from {call}");
        transaction.batch_execute(&asked).unwrap();
        let read: i64 = transaction
            .query_one(
                "select seq_tup_read + idx_tup_fetch from pg_stat_xact_sys_tables where relname = 'pg_class'",
                &[],
            )
            .unwrap()
            .get(0);
        assert!(
            read < TABLES * classes / 2,
            "{call} read {read} rows of pg_class, which has {classes}"
        );
        transaction.rollback().unwrap();
    }
}

/// The planner takes what comes from a function for a thousand rows, and what it takes for much it compiles first, which takes longer than all else.
#[test]
fn what_is_small_is_not_compiled() {
    let db = support::database();
    make(&mut db.client(), 1..=1);
    db.file("emaj.yaml", MANIFEST);
    support::emaj(&db).args(["install"]).run().ok();
    let found = db.psql(
        "select proname, prorows, 'jit=off' = any (proconfig) from pg_proc
          where proname in ('_unfit', 'emaj_origin') and pronamespace = 'emaj'::regnamespace order by 1",
    );
    assert_eq!(found, "_unfit|1000|t\nemaj_origin|1|f");
}
