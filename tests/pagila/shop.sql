-- A small rental shop: what the story of a working day is told on when Pagila is not at hand.
create type rating as enum ('G', 'PG', 'R');
create domain year as integer check (value between 1901 and 2155);

create table film (
  film_id serial primary key,
  title text not null,
  released year default 2000,
  rating rating default 'G',
  price numeric(5, 2) not null default 2.99,
  features text[] default '{}',
  fulltext tsvector,
  last_update timestamptz not null default now()
);
create table customer (
  customer_id integer generated always as identity primary key,
  name text not null,
  email text unique,
  active boolean not null default true,
  last_update timestamptz not null default now()
);
create table rental (
  rental_id bigserial primary key,
  film_id integer not null references film on update cascade on delete restrict,
  customer_id integer not null references customer,
  rented date not null,
  unique (film_id, customer_id, rented)
);
create table payment (
  payment_id serial,
  rental_id bigint references rental on delete set null,
  customer_id integer not null references customer,
  amount numeric(5, 2) not null,
  paid date not null,
  primary key (paid, payment_id)
) partition by range (paid);
create table payment_01 partition of payment for values from ('2026-01-01') to ('2026-02-01');
create table payment_02 partition of payment for values from ('2026-02-01') to ('2026-03-01');
create table payment_rest partition of payment default;

create function touched() returns trigger language plpgsql as $$ begin new.last_update := clock_timestamp(); return new; end $$;
create trigger touched before update on film for each row execute function touched();
create trigger touched before update on customer for each row execute function touched();
create trigger words before insert or update on film
  for each row execute function tsvector_update_trigger('fulltext', 'pg_catalog.english', 'title');
create view unpaid as select r.* from rental r where not exists (select from payment p where p.rental_id = r.rental_id);

insert into film (title, rating, features)
  select 'Film number ' || i, (array['G', 'PG', 'R'])[1 + i % 3]::rating, array['one', null] from generate_series(1, 40) i;
insert into customer (name, email) select 'Customer ' || i, 'c' || i || '@example.org' from generate_series(1, 25) i;
insert into rental (film_id, customer_id, rented) select 1 + i % 30, 1 + i % 25, date '2026-01-01' + i % 28 from generate_series(1, 100) i;
insert into payment (rental_id, customer_id, amount, paid)
  select rental_id, customer_id, 1 + rental_id % 7 + 0.99, rented from rental;
