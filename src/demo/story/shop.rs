//! The first part: a shop, a mark, a day's work, a mistake, and the way back.

use super::{Act, Chapter};

/// The manifest of the gallery that is installed, and its name.
const MANIFEST: (&str, &str) = (
    "01-first-group.yaml",
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/01-first-group.yaml")),
);

/// The application.
const SHOP: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/shop.sql"));

pub(super) const CHAPTERS: &[Chapter] = &[
    Chapter {
        title: "A shop",
        told: "An application with tables, keys, triggers and rows (manifests/shop.sql). Its owner is no superuser.",
        acts: &[
            Act::Load("shop.sql", SHOP),
            Act::Sql(
                "select (select count(*) from shop.customer) as customers, (select count(*) from shop.product) as products,
       (select count(*) from shop.orders) as orders, (select count(*) from shop.order_line) as order_lines",
            ),
            Act::Dump,
        ],
    },
    Chapter {
        title: "A manifest",
        told: "Four tables belong together: the manifest says so. `install` shows its plan and carries it out; `plan` stops before.",
        acts: &[
            Act::Show(MANIFEST.0, MANIFEST.1),
            Act::Emaj(&["install", MANIFEST.0]),
            Act::Emaj(&["plan", MANIFEST.0]),
        ],
    },
    Chapter {
        title: "A mark",
        told: "A mark is a name for this moment. Setting it waits for nobody.",
        acts: &[
            Act::Emaj(&["mark", "set", "orders", "morning"]),
            Act::Remember("morning"),
        ],
    },
    Chapter {
        title: "A day's work",
        told: "Orders come in, some are paid, one is taken back, prices and a customer's address change.",
        acts: &[
            Act::Sql(
                "insert into shop.customer (email, name) values ('ada@example.org', 'Ada'), ('grace@example.org', 'Grace')",
            ),
            Act::Sql(
                "with new as (
  insert into shop.orders (customer_id, placed_at)
  select id, now() from shop.customer where email in ('ada@example.org', 'grace@example.org') returning id
)
insert into shop.order_line (order_id, line, product_id, quantity, unit_price)
select new.id, 1, 7, 2, 9.75 from new",
            ),
            Act::Sql("update shop.orders set state = 'paid' where state = 'open' and id < 40"),
            Act::Sql("delete from shop.orders where id = 4 /* its lines go with it: on delete cascade */"),
            Act::Sql("update shop.customer set email = 'new.address@example.org' where id = 12"),
            Act::Sql("update shop.product set price = price * 1.05 where id % 10 = 0"),
            Act::Emaj(&["mark", "set", "orders", "evening"]),
            Act::Differs("morning"),
            Act::Remember("evening"),
        ],
    },
    Chapter {
        title: "A mistake",
        told: "An update without its `where`, and the wrong table emptied. Both are committed.",
        acts: &[
            Act::Sql("update shop.product set price = 0, stock = stock - 1"),
            Act::Sql("truncate shop.order_line"),
            Act::Sql("select nextval('shop.orders_id_seq')"),
            Act::Differs("evening"),
        ],
    },
    Chapter {
        title: "What happened?",
        told: "The log knows: what, how often, by whom.",
        acts: &[Act::Emaj(&["stat", "orders", "--from", "evening", "--detailed"])],
    },
    Chapter {
        title: "Back to the evening",
        told: "Every row and every sequence is as it was at the mark.",
        acts: &[
            Act::Emaj(&["rollback", "orders", "evening", "--dry-run"]),
            Act::Emaj(&["rollback", "orders", "evening", "--yes"]),
            Act::Same("evening"),
        ],
    },
    Chapter {
        title: "Back to the morning",
        told: "Further back is as good. The day's work goes too.",
        acts: &[
            Act::Emaj(&["rollback", "orders", "morning", "--yes"]),
            Act::Same("morning"),
        ],
    },
    Chapter {
        title: "And forward again",
        told: "A logged rollback is a change like any other: it stands between two marks, and can be rolled back itself.",
        acts: &[
            Act::Emaj(&["mark", "list", "orders"]),
            Act::Emaj(&["rollback", "orders", "{RLBK_morning_%_START}", "--yes"]),
            Act::Same("evening"),
        ],
    },
    Chapter {
        title: "No trace",
        told: "`uninstall` takes out all that `install` made. The rows stay; the schema is what it was, to the byte.",
        acts: &[
            Act::Emaj(&["uninstall", "--yes", MANIFEST.0]),
            Act::Same("evening"),
            Act::SameDump,
        ],
    },
];
