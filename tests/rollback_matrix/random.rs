//! Random lives of a database: statements nobody thought of, marks and rollbacks in between; each life has its number and can be
//! lived again. Whatever the application refuses is refused; whatever it does is undone.

use std::fmt::Write as _;

use crate::support::story::{State, Story, stories};

/// Keys that can be swapped, foreign keys with actions, a self reference, unique values, a trigger that meddles, partitions.
const WORLD: &str = "
    create table p (id int primary key, u int unique deferrable, v text);
    create table c (id int primary key deferrable initially deferred, p int references p on delete cascade on update cascade, n numeric);
    create table s (id int primary key, boss int references s on delete set null deferrable initially deferred, u int, unique (u));
    create table m (id int primary key, main boolean not null, hits int not null default 0);
    create table x (id int, r int, v text, p int references p, primary key (id, r)) partition by list (r);
    create table x1 partition of x for values in (0, 1); create table x2 partition of x default;
    create function meddle() returns trigger language plpgsql as $$
    begin
      if new.main and pg_trigger_depth() < 3 then update m set main = false, hits = hits + 1 where main and id <> new.id; end if;
      return new;
    end $$;
    create trigger meddle before insert or update on m for each row execute function meddle();
    insert into p select i, i, 'p' || i from generate_series(1, 6) i;
    insert into c select i, i, i from generate_series(1, 6) i;
    insert into s select i, nullif(i - 1, 0), i from generate_series(1, 6) i;
    insert into m select i, i = 1 from generate_series(1, 6) i;
    insert into x select i, i % 3, 'x', 1 + i % 6 from generate_series(1, 8) i";

/// A small generator (xorshift): the same number gives the same life.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.roll(from.len() as u64)).expect("small")]
    }
}

fn statement(dice: &mut Dice) -> String {
    let template = dice.pick(&[
        "insert into p values (#, #, 'n#')",
        "insert into p values (#, #, 'n') on conflict (id) do update set v = p.v || '#', u = excluded.u",
        "update p set id = # where id = #",
        "update p set u = 13 - u where u between 1 and 12",
        "update p set u = u + 1",
        "update p set v = v || '#' where id > #",
        "delete from p where id = #",
        "insert into c values (#, #, #.0)",
        "insert into c values (#, #, #.00)",
        "update c set id = 13 - id",
        "update c set id = # where id = #",
        "update c set n = n * 1.0, p = # where id < #",
        "delete from c where id > #",
        "insert into s values (#, #, #)",
        "update s set boss = # where id > #",
        "update s set id = # where id = #",
        "update s set u = -u where u = #",
        "delete from s where id = #",
        "delete from s where id > #",
        "insert into m values (#, true)",
        "update m set main = true where id = #",
        "update m set id = id + 20 where id = #",
        "update m set main = not main where id < #",
        "delete from m where id = #",
        "insert into x values (#, #, 'x#', #)",
        "update x set r = # % 4 where id > #",
        "update x set id = id + 1 where id = #",
        "update x set v = v || '#', p = # where r < 3",
        "delete from x where id = #",
        "truncate x1",
        "truncate m",
        "truncate c",
        "merge into x using (select # as id, # % 4 as r) as n on x.id = n.id when matched then update set r = n.r when not matched then insert values (n.id, n.r, 'm', null)",
        "with gone as (delete from m where id < # returning id) insert into s select id, null, 100 + id from gone on conflict do nothing",
    ]);
    let mut sql = String::new();
    for (at, part) in template.split('#').enumerate() {
        if at > 0 {
            let _ = write!(sql, "{}", 1 + dice.roll(12));
        }
        sql += part;
    }
    sql
}

/// Lives one life; `told` is what is shown when it goes wrong.
fn live(story: &mut Story<'_>, number: u64) {
    let mut dice = Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for _ in 0..20 {
        dice.roll(2);
    }
    let definitions = story.definitions();
    let mut marks: Vec<(String, State)> = Vec::new();
    let mut done = 0;
    let mut told = format!("life {number}:\n");
    for step in 0..70 {
        match dice.roll(10) {
            0 => {
                let name = format!("l{number}_m{step}");
                story.mark(&name);
                let _ = writeln!(told, "-- mark {name}");
                marks.push((name, story.state()));
            }
            1 if !marks.is_empty() => {
                let at = usize::try_from(dice.roll(marks.len() as u64)).expect("small");
                let (name, wanted) = marks[at].clone();
                let logged = dice.roll(3) > 0;
                let _ = writeln!(
                    told,
                    "-- {} rollback to {name}",
                    if logged { "logged" } else { "unlogged" }
                );
                if logged {
                    let now = story.state();
                    story.logged_rollback(&name);
                    let start = story.last_start_mark();
                    marks.push((start, now));
                } else {
                    story.rollback(&name);
                    marks.truncate(at + 1);
                }
                story.is(&wanted, &definitions, &told);
            }
            kind => {
                let count = if kind < 5 { 1 } else { 1 + dice.roll(4) };
                let body: Vec<String> = (0..count).map(|_| statement(&mut dice)).collect();
                let (mut sql, body) = (String::from("begin;\n"), body);
                if dice.roll(2) == 0 {
                    sql += "set constraints all deferred;\n";
                }
                sql += &body.join(";\n");
                sql += ";\ncommit";
                match story.client.batch_execute(&sql) {
                    Ok(()) => {
                        done += 1;
                        let _ = writeln!(told, "{sql};");
                    }
                    Err(_) => story.sql("rollback"),
                }
            }
        }
    }
    assert!(done > 10, "a life in which nothing succeeds shows nothing:\n{told}");
    for (name, wanted) in marks.iter().rev() {
        let _ = writeln!(told, "-- unlogged rollback to {name}");
        story.rollback(name);
        story.is(wanted, &definitions, &told);
    }
    story.mark(&format!("end of {number}"));
}

fn lives(story: &mut Story<'_>, numbers: std::ops::Range<u64>) {
    story.sql(WORLD);
    story.install("*");
    story.sql("set client_min_messages = error");
    // EMAJ_LIVES=100 lives a hundred more of each kind, other ones than the tests' own.
    let more = std::env::var("EMAJ_LIVES").map_or(0, |count| count.parse().expect("EMAJ_LIVES is a number"));
    let others = numbers.start * 1000..numbers.start * 1000 + more;
    for number in numbers.chain(others) {
        live(story, number);
    }
}

stories! {
    the_first_lives(story) {
        lives(story, 1..5);
    }

    the_next_lives(story) {
        lives(story, 5..9);
    }

    lives_captured_by_row(story) {
        let tables: Vec<String> = ["p", "c", "s", "m"].iter().map(|table| format!("      {}.{table}: {{ capture: row }}\n", story.schema)).collect();
        story.options += &format!("    table_options:\n{}", tables.concat());
        lives(story, 9..12);
    }
}
