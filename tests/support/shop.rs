//! A database with captured tables that belong to a role of its own, who is no superuser.

use super::database::drop_role;
use super::{Database, Emaj, Run, database, emaj};

/// A database with captured tables that belong to a role that is no superuser.
pub struct Shop {
    pub owner: String,
    pub db: Database,
}

impl Shop {
    pub fn open(tables: &str, manifest: &str) -> Shop {
        let db = database();
        let owner = format!("{}_keeper", db.name());
        db.client()
            .batch_execute(&format!(
                "create role {owner} login; grant create on database {} to {owner}",
                db.name()
            ))
            .unwrap();
        let shop = Shop { owner, db };
        shop.sql(tables);
        shop.db.file("emaj.yaml", manifest);
        shop.emaj(&["install"]).run().ok();
        shop
    }

    pub fn sql(&self, sql: &str) {
        let done = self.db.client_as(&self.owner).batch_execute(sql);
        done.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
    }

    /// Makes bare names mean tables of the schema `shop`.
    pub fn on_path(&self) {
        self.sql(&format!(
            "alter role {} in database {} set search_path = shop, public",
            self.owner,
            self.db.name()
        ));
    }

    pub fn emaj(&self, words: &[&str]) -> Emaj {
        emaj(&self.db).user(&self.owner).args(words)
    }

    pub fn run(&self, words: &[&str]) -> Run {
        self.emaj(words).run()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        drop_role(&self.db, &self.owner);
    }
}
