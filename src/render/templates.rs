//! The list of embedded templates; one line each. A test holds it against the folder. Which of them define a function of the
//! framework is read off the templates.

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        /// Every template: its name and its source.
        pub(super) const TEMPLATES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $name, ".sql.j2")))),*];
    };
}

templates! {
    "action/drop",
    "action/function",
    "action/trigger",
    "binding/begin_to_read",
    "binding/change",
    "binding/create",
    "binding/drift",
    "binding/remove",
    "binding/rows_anew",
    "changes/begin",
    "changes/csv",
    "changes/end",
    "changes/json",
    "changes/script",
    "changes/touched",
    "changes/value",
    "changes/window",
    "group/begin",
    "group/capture_on",
    "group/catalogue_rows",
    "group/change",
    "group/check",
    "group/create",
    "group/drift",
    "group/drift_reason",
    "group/drop",
    "group/drop_api",
    "group/drop_relations",
    "group/force_drop_api",
    "group/known",
    "group/label",
    "group/lock",
    "group/look",
    "group/looked",
    "group/named",
    "group/note_triggers",
    "group/partitions",
    "group/protect",
    "group/protect_api",
    "group/refuse_drift",
    "group/relations",
    "group/remove",
    "group/remove_portion",
    "group/remove_relations",
    "group/reset",
    "group/reset_api",
    "group/said",
    "group/same_type",
    "group/start",
    "group/start_api",
    "group/start_groups_api",
    "group/stop",
    "group/stop_api",
    "group/stop_groups_api",
    "group/unprotect_api",
    "group/unwatched_files",
    "history/count",
    "history/purge",
    "history/purge_api",
    "history/shell_word",
    "history/write",
    "log/captured_by",
    "log/captures",
    "log/current_names",
    "log/drop_notes",
    "log/end",
    "log/expression",
    "log/follow",
    "log/function",
    "log/gaps_api",
    "log/guard",
    "log/keeps",
    "log/misfit_columns",
    "log/misfits",
    "log/names_left",
    "log/needed",
    "log/one_size",
    "log/ordered",
    "log/partition_came",
    "log/parts",
    "log/purge",
    "log/purge_group",
    "log/purge_logs",
    "log/purge_part",
    "log/purge_table",
    "log/purged",
    "log/recomputed",
    "log/register",
    "log/release",
    "log/rotate",
    "log/size",
    "log/table",
    "log/table_name",
    "log/taken",
    "log/to_truncate",
    "log/triggers",
    "log/trim",
    "log/trim_api",
    "log/type_now",
    "log/uncapture",
    "log/untrigger",
    "log/unwatched",
    "mark/comment",
    "mark/delete",
    "mark/delete_before",
    "mark/drop",
    "mark/expire",
    "mark/install",
    "mark/name",
    "mark/previous",
    "mark/previous_api",
    "mark/protect",
    "mark/protect_api",
    "mark/put",
    "mark/rename",
    "mark/resolve",
    "mark/set",
    "mark/set_groups",
    "mark/uncaptured",
    "mark/uncaptured_said",
    "mark/unprotect_api",
    "past/arrays",
    "past/json",
    "past/states",
    "past/uses",
    "past/view",
    "position/after",
    "position/conditions",
    "position/full_xid",
    "position/now",
    "position/precedes",
    "position/whole_xid",
    "query/ask",
    "query/forget",
    "query/prepare",
    "received/create",
    "registry/archive",
    "registry/change",
    "registry/check_origin",
    "registry/close",
    "registry/close_made",
    "registry/drop",
    "registry/drop_hollow",
    "registry/grant",
    "registry/install",
    "registry/lock_key",
    "registry/new_name",
    "registry/origin",
    "registry/refuse",
    "registry/release",
    "registry/restored",
    "registry/role",
    "registry/seal",
    "registry/settle",
    "registry/tables",
    "revert/base_type",
    "revert/check",
    "revert/check_api",
    "revert/chosen",
    "revert/from",
    "revert/halves",
    "revert/is_deferrable",
    "revert/later",
    "revert/mark",
    "revert/phases",
    "revert/place",
    "revert/run_api",
    "revert/source",
    "revert/tables",
    "revert/window",
    "rollback/activity_api",
    "rollback/await",
    "rollback/came_filled",
    "rollback/came_gone",
    "rollback/came_keys",
    "rollback/check",
    "rollback/check_api",
    "rollback/check_groups_api",
    "rollback/columns",
    "rollback/comment_api",
    "rollback/consolidable_api",
    "rollback/consolidate_api",
    "rollback/constraints_mode",
    "rollback/empty_logs",
    "rollback/estimate_api",
    "rollback/estimate_groups_api",
    "rollback/estimate_tables",
    "rollback/finish",
    "rollback/foreign_key_parts",
    "rollback/foreign_keys",
    "rollback/forget",
    "rollback/holds",
    "rollback/io",
    "rollback/key",
    "rollback/key_equals",
    "rollback/lane",
    "rollback/late_sequences",
    "rollback/left",
    "rollback/left_api",
    "rollback/left_of",
    "rollback/left_orphans",
    "rollback/left_partly",
    "rollback/locked",
    "rollback/logged_api",
    "rollback/logged_groups_api",
    "rollback/loosen",
    "rollback/mend_api",
    "rollback/name_foreign_key_parts",
    "rollback/note_left",
    "rollback/numbered",
    "rollback/open",
    "rollback/order",
    "rollback/pace",
    "rollback/parallel_begin",
    "rollback/parallel_end",
    "rollback/parallel_lane",
    "rollback/parallel_lock",
    "rollback/parallel_settle",
    "rollback/parallel_start",
    "rollback/partly",
    "rollback/plain_type",
    "rollback/refusals",
    "rollback/refuse_old_snapshot",
    "rollback/refuse_torn",
    "rollback/replica",
    "rollback/run",
    "rollback/source",
    "rollback/stop_api",
    "rollback/stop_groups_api",
    "rollback/survey",
    "rollback/table",
    "rollback/tables",
    "rollback/tables_api",
    "rollback/tell",
    "rollback/torn",
    "rollback/torn_api",
    "rollback/torn_captured",
    "rollback/torn_repair",
    "rollback/triggers_off",
    "rollback/unfinished",
    "rollback/unfit",
    "rollback/unfit_said",
    "rollback/unlogged_api",
    "rollback/unlogged_groups_api",
    "rollback/update",
    "rollback/went_back",
    "rollback/written_since",
    "row/as_text",
    "row/copy",
    "row/delete",
    "row/empty",
    "row/fixed",
    "row/keys",
    "row/move",
    "row/preview",
    "row/respell",
    "row/respelled",
    "row/same",
    "row/stage",
    "row/there",
    "row/unchanged",
    "row/upsert",
    "sequence/away",
    "sequence/lock",
    "sequence/now",
    "sequence/register",
    "sequence/rename",
    "sequence/restore",
    "sequence/settle",
    "sequence/state",
    "sink/change",
    "sink/create",
    "sink/lose",
    "sink/reads",
    "sink/remove",
    "sink/unread",
    "snap/group",
    "snap/queries_api",
    "snap/query",
    "stat/bounds",
    "stat/changes",
    "stat/count",
    "stat/detailed",
    "stat/detailed_group",
    "stat/detailed_logs",
    "stat/drawn",
    "stat/emptied",
    "stat/exact",
    "stat/history",
    "stat/history_sequence",
    "stat/history_table",
    "stat/interval",
    "stat/intervals",
    "stat/log",
    "stat/log_counted",
    "stat/log_group",
    "stat/marks",
    "stat/sequence",
    "stat/sequence_group",
    "stat/since",
    "stat/unbroken",
    "stat/whole",
    "stat/window",
    "stream/alike",
    "stream/became",
    "stream/bytes",
    "stream/columns",
    "stream/copy",
    "stream/count",
    "stream/deletes",
    "stream/image",
    "stream/key_after",
    "stream/later",
    "stream/one_key",
    "stream/own",
    "stream/place",
    "stream/prepare",
    "stream/present",
    "stream/probe",
    "stream/rows",
    "stream/settle",
    "stream/summarise",
    "stream/text_types",
    "stream/window",
    "verify/all",
    "verify/detailed",
    "verify/marks",
    "verify/objects",
}

/// Returns the source of a template.
pub(super) fn source(name: &str) -> Option<&'static str> {
    let at = TEMPLATES.binary_search_by_key(&name, |(known, _)| known).ok()?;
    Some(TEMPLATES[at].1)
}

/// How a template begins a function of the framework. Those of a table (`log/function`) and of a binding
/// (`action/function`) have a name of their own there instead.
const DEFINES: &str = "\ncreate or replace function {{ schema | ident }}.";

/// Returns the names of the templates that define one function of the framework each.
pub(super) fn functions() -> impl Iterator<Item = &'static str> {
    let of_framework = |(_, source): &&(&str, &str)| {
        source
            .split_once(DEFINES)
            .is_some_and(|(_, name)| !name.starts_with("{{"))
    };
    TEMPLATES.iter().filter(of_framework).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_list_is_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let mut there = BTreeSet::new();
        for noun in std::fs::read_dir(folder).unwrap() {
            let noun = noun.unwrap();
            for verb in std::fs::read_dir(noun.path()).unwrap() {
                let (noun, verb) = (noun.file_name(), verb.unwrap().file_name());
                let verb = verb.to_str().unwrap().strip_suffix(".sql.j2").unwrap();
                there.insert(format!("{}/{verb}", noun.to_str().unwrap()));
            }
        }
        let listed: BTreeSet<String> = TEMPLATES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(listed, there);
        assert_eq!(listed.len(), TEMPLATES.len(), "each once");
    }

    /// A template without what stands between such marks.
    fn without(source: &str, open: &str, close: &str) -> String {
        let behind = |piece| str::split_once(piece, close).map_or(piece, |(_, behind)| behind);
        source.split(open).map(behind).collect()
    }

    /// A string with a backslash means another thing where `standard_conforming_strings` is off, and a function is read anew by each session.
    #[test]
    fn no_string_of_sql_has_a_backslash() {
        for (name, source) in TEMPLATES {
            // Within tags it is the template's own.
            assert!(!without(source, "{%", "%}").contains('\\'), "{name}");
        }
    }

    /// A database may have an encoding without any other character.
    #[test]
    fn sql_is_ascii() {
        for (name, source) in TEMPLATES {
            assert!(without(source, "{#", "#}").is_ascii(), "{name}");
        }
    }

    #[test]
    fn every_function_is_of_the_framework_or_of_a_table() {
        let all = TEMPLATES
            .iter()
            .filter(|(_, source)| source.contains("create or replace function"));
        let others: Vec<&str> = all
            .map(|(name, _)| *name)
            .filter(|name| !functions().any(|own| own == *name))
            .collect();
        assert_eq!(others, ["action/function", "log/function"]);
    }
}
