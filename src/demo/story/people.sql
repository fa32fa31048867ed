-- The people of a company and the teams they are in: what the directory of the demonstration follows.

create schema hr;

create table hr.person (
  id integer generated always as identity primary key,
  login text not null unique,
  given text not null,
  family text not null,
  mail text,
  phone text
);

create table hr.membership (
  team text not null,
  login text not null references hr.person (login) on update cascade on delete cascade,
  primary key (team, login)
);

insert into hr.person (login, given, family, mail, phone) values
  ('ada', 'Ada', 'Lovelace', 'ada@example.org', '+44 20 7946 0815'),
  ('alan', 'Alan', 'Turing', 'alan@example.org', null),
  ('barbara', 'Barbara', 'Liskov', 'barbara@example.org', '+1 617 555 0139'),
  ('edsger', 'Edsger', 'Dijkstra', null, '+31 20 555 1930'),
  ('murray', 'Grace', 'Murray', 'murray@example.org', null);
insert into hr.membership (team, login) values
  ('analysis', 'ada'), ('analysis', 'alan'), ('compilers', 'murray'), ('compilers', 'barbara');
