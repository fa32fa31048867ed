//! The gallery: every numbered manifest installs on the shop, again finds nothing to do, and goes without a trace.
//!
//! They run as a role that is no superuser, in a cluster of their own: the manifests make cluster-wide roles.

use std::path::{Path, PathBuf};

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};

use crate::support;

/// Returns what the gallery's entries are, one list of manifests each: installed in this order, taken out in the other.
fn gallery() -> Vec<(String, Vec<PathBuf>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let entries = |folder: &Path| {
        let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        found.sort();
        found
    };
    let numbered = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name.as_bytes()[0].is_ascii_digit()).then(|| (name, path.clone()))
    };
    entries(&root)
        .iter()
        .filter_map(numbered)
        .map(|(name, path)| {
            // Two teams are two manifests; every other folder is one.
            let two_teams = name.ends_with("two-teams-one-database");
            (name, if two_teams { entries(&path) } else { vec![path] })
        })
        .collect()
}

fn client(cluster: &Cluster, dbname: &str, role: &str) -> Client {
    Client::connect(&format!("{} user={role}", cluster.conninfo(dbname)), NoTls).unwrap()
}

/// Returns the schema of a database as `pg_dump` writes it, privileges and owners included.
fn dump(cluster: &Cluster, dbname: &str) -> String {
    support::dump(cluster, &cluster.conninfo(dbname), &["-s"])
}

fn roles(cluster: &Cluster) -> String {
    client(cluster, "postgres", "postgres")
        .query_one("select string_agg(rolname, ' ' order by rolname) from pg_roles", &[])
        .unwrap()
        .get(0)
}

#[test]
fn every_manifest_installs_on_the_shop_and_leaves_no_trace() {
    let cluster = Cluster::builder().start().unwrap();
    client(&cluster, "postgres", "postgres")
        .batch_execute("create role shopkeeper login createrole")
        .unwrap();
    let roles_before = roles(&cluster);
    let directory = tempfile::tempdir().unwrap();
    let shop = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/shop.sql")).unwrap();
    let gallery = gallery();
    assert!(gallery.len() >= 8, "{gallery:?}");
    for (at, (name, manifests)) in gallery.iter().enumerate() {
        let dbname = format!("shop_{at}");
        client(&cluster, "postgres", "postgres")
            .batch_execute(&format!("create database {dbname} owner shopkeeper"))
            .unwrap();
        client(&cluster, &dbname, "shopkeeper").batch_execute(&shop).unwrap();
        let before = dump(&cluster, &dbname);
        let run = |verb: &str, manifest: &Path, more: &[&str]| {
            support::emaj_alone(directory.path())
                .envs(cluster.env(&dbname))
                .user("shopkeeper")
                .args([verb])
                .args([manifest])
                .args(more)
                .run()
        };
        for manifest in manifests {
            run("plan", manifest, &["--detailed-exitcode"]).code(2);
            run("install", manifest, &[]).ok();
        }
        assert_ne!(dump(&cluster, &dbname), before, "{name} installs something");
        for manifest in manifests {
            let again = run("plan", manifest, &["--detailed-exitcode"]).ok();
            assert!(again.stderr.contains("nothing to do"), "{again}");
            assert!(!again.stderr.contains("warning"), "{again}");
        }
        // The application goes on while it is captured, and afterwards.
        let use_it =
            "update shop.product set stock = stock + 1; update shop.customer set name = name || '!' where id < 10;
                      insert into shop.payment (order_id, paid_on, amount) values (1, '2026-02-03', 12);
                      delete from shop.orders where id = 999; update \"Odd Schema\".\"Odd Name\" set \"select\" = 'x'";
        client(&cluster, &dbname, "shopkeeper").batch_execute(use_it).unwrap();
        for manifest in manifests.iter().rev() {
            run("uninstall", manifest, &["--yes"]).ok();
        }
        client(&cluster, &dbname, "shopkeeper").batch_execute(use_it).unwrap();
        assert_same(&before, &dump(&cluster, &dbname), name);
        assert_eq!(roles(&cluster), roles_before, "{name} leaves no role");
    }
}

/// Asserts byte for byte; a failure shows the lines that differ instead of two whole dumps.
#[track_caller]
fn assert_same(before: &str, after: &str, name: &str) {
    let diff = similar::TextDiff::from_lines(before, after);
    assert!(before == after, "{name} left something:\n{}", diff.unified_diff());
}
