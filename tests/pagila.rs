//! A day in the life of a DVD rental shop: Pagila, with partitions, domains, enums, triggers and full text, goes back and forth.
//!
//! Pagila is not part of this repository. Where `EMAJ_PAGILA`, or `../shared/data/pagila.sql`, leads to it, its story is told; the
//! smaller shop below is told always, so that whoever has only the repository is not left with nothing.

use std::path::PathBuf;

use crate::support::story::{Story, Who, tell};

/// A shop that has what makes Pagila hard: partitions, a domain, an enum, arrays, full text, triggers, views, sequences.
const SHOP: &str = include_str!("pagila/shop.sql");

/// The working day of the small shop: the changes after each mark.
const SHOP_DAY: &[&str] = &[
    "insert into rental (film_id, customer_id, rented) select 1 + i % 40, 1 + i % 25, date '2026-02-01' + i % 20 from generate_series(1, 60) i;
     insert into payment (rental_id, customer_id, amount, paid) select rental_id, customer_id, 2.99, rented from rental where rental_id > 100;
     update film set features = features || array['night'], price = price + 0.10 where rating = 'PG';
     insert into customer (name, email) values ('Late Comer', 'late@example.org')",
    "update customer set active = false, email = upper(email);
     update payment set paid = paid + 31 where extract(month from paid) = 1 and payment_id % 2 = 0;
     update film set film_id = film_id + 1000 where film_id between 30 and 35;
     delete from customer where name = 'Late Comer'; delete from payment where amount > 5",
    "truncate rental cascade;
     insert into rental (film_id, customer_id, rented) values (1, 1, '2026-03-01');
     delete from film where film_id > 1030; alter sequence film_film_id_seq increment 10; insert into film (title) values ('The Last One')",
];

/// The working day of Pagila.
const PAGILA_DAY: &[&str] = &[
    "insert into rental (rental_date, inventory_id, customer_id, staff_id) select now(), i, 1 + i % 500, 1 + i % 2 from generate_series(1, 200) i;
     insert into payment (customer_id, staff_id, rental_id, amount, payment_date)
       select customer_id, staff_id, rental_id, 4.99, timestamp '2022-03-10 10:00' + rental_id * interval '1 minute' from rental where rental_id > 16049;
     update rental set return_date = now() where return_date is null and rental_id < 16000;
     update film set title = initcap(title), rental_rate = rental_rate + 1 where rating = 'PG-13';
     insert into customer (store_id, first_name, last_name, address_id) values (1, 'LATE', 'COMER', 5)",
    "update customer set email = lower(email), activebool = false;
     update film set special_features = null, release_year = 2000;
     update payment set payment_date = payment_date + interval '2 months' where payment_date < '2022-04-01' and payment_id % 3 = 0;
     update actor set actor_id = actor_id + 5000 where actor_id > 150;
     delete from film_category where film_id < 100",
    "truncate rental cascade; delete from film_actor where actor_id > 5000; delete from actor where actor_id > 5100;
     insert into rental (rental_date, inventory_id, customer_id, staff_id) values ('2022-08-01', 1, 1, 1);
     insert into film_category select 1, category_id from category on conflict do nothing; update film set fulltext = '' where film_id < 10;
     select setval('film_film_id_seq', 1); alter sequence actor_actor_id_seq increment 7",
];

fn pagila() -> Option<String> {
    let given = std::env::var_os("EMAJ_PAGILA").map(PathBuf::from);
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/pagila.sql"));
    match given {
        Some(path) => Some(
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("EMAJ_PAGILA={}: {error}", path.display())),
        ),
        None => std::fs::read_to_string(beside).ok(),
    }
}

fn working_day(story: &mut Story<'_>) {
    let Some(sql) = pagila() else {
        // Straight to the terminal: what a test prints by `println!` is not seen when it passes.
        use std::io::Write as _;
        let _ = writeln!(
            std::io::stderr(),
            "pagila.sql is not there: its story is not told, only that of the small shop (EMAJ_PAGILA=/path/to/pagila.sql)"
        );
        return the_shop(story);
    };
    let file = story.db.file("pagila.sql", &sql);
    // The dump names schema public throughout; whoever tells the story owns it.
    if let Some(role) = story.role.clone() {
        story.sql_as_superuser(&format!("alter schema public owner to {role}"));
    }
    let role = story.role.clone();
    let conninfo = role.map_or_else(|| story.db.conninfo(), |role| story.db.conninfo_as(&role));
    crate::support::run_file(&conninfo, &file, &[]);
    story.schema = "public".to_owned();
    story.sql("set search_path = public; set timezone = 'Europe/Lisbon'");
    assert_eq!(story.ask("select count(*) from public.film"), "1000");
    story.install("*");
    let tables = "select count(*) from emaj.emaj_relation where rel_kind <> 'S'";
    let whole = "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition";
    let (captured, there) = (story.ask(tables), story.ask(whole));
    assert_eq!(captured, there, "every table is in the group");
    story.back_and_forth(PAGILA_DAY);
}

fn the_shop(story: &mut Story<'_>) {
    story.sql(SHOP);
    story.install("*");
    story.back_and_forth(SHOP_DAY);
}

#[test]
fn a_day_at_pagila_told_by_a_superuser() {
    tell(Who::Superuser, working_day);
}

#[test]
fn a_day_at_pagila_told_by_the_owner() {
    tell(Who::Owner, working_day);
}

#[test]
fn a_day_at_the_small_shop_told_by_a_superuser() {
    tell(Who::Superuser, the_shop);
}

#[test]
fn a_day_at_the_small_shop_told_by_the_owner() {
    tell(Who::Owner, the_shop);
}
