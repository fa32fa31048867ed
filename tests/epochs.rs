//! A server 2^32 transactions later, where the number of a transaction stands for another one: a mark is what it was.

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};

use crate::started_anew::{MANIFEST, STORY, run_in, shut_down};

#[test]
fn a_partition_that_was_attached_an_epoch_ago_is_no_newer_than_a_mark() {
    let mut cluster = Cluster::builder().start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("emaj.yaml"), MANIFEST).unwrap();
    let run = |cluster: &Cluster, words: &[&str]| run_in(directory.path(), cluster, words);
    let client = |cluster: &Cluster| Client::connect(&cluster.conninfo("postgres"), NoTls).unwrap();
    let rows = |cluster: &Cluster| -> String {
        let all = "select string_agg(t::text, ' ' order by t) from (select 'p', id, v from app.parent union all select r::text, id, v from app.parted) as t";
        client(cluster).query_one(all, &[]).unwrap().get(0)
    };
    client(&cluster).batch_execute(STORY).unwrap();
    run(&cluster, &["install"]).ok();
    run(&cluster, &["mark", "set", "g", "before"]).ok();
    let at_first = rows(&cluster);
    shut_down(&mut cluster);
    let reset = cluster
        .companion(&cluster.bindir().join("pg_resetwal"))
        .args(["-e", "1", "-D"])
        .arg(cluster.data_dir())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(reset.success());
    cluster.start_again().unwrap();
    client(&cluster)
        .batch_execute("update app.parent set v = 'r' where id > 9; delete from app.parted where r = 0")
        .unwrap();
    run(&cluster, &["mark", "set", "g", "after"]).ok();
    let at_second = rows(&cluster);
    client(&cluster)
        .batch_execute("update app.parted set v = 's'; delete from app.parted where id = 3")
        .unwrap();
    for (mark, wanted) in [("after", &at_second), ("before", &at_first)] {
        run(&cluster, &["rollback", "g", mark, "--yes"]).ok();
        assert_eq!(rows(&cluster), *wanted, "{mark}");
    }
    run(&cluster, &["verify"]).ok();
}
