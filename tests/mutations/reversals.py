"""The guards of the reversal of many entries, in the database and in the program."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_APPLY = "sql/functions/070_import_apply.sql"
_MANY = "sql/functions/075_reversals.sql"
_SETS = "tokenctl/services/reversal_sets.py"
_MEDDLING = "tests/integration/test_batch_meddling.py"
_REVERSALS = "tests/integration/test_batch_reversals.py"
_CHAINS = "tests/cli/test_reverse_chains.py"
_CONFIRMED = "tests/cli/test_reverse_confirmed.py"

REVERSALS = (
    Mutation(
        "a reversal whose staged rows are gone does not begin",
        _MANY,
        "IF batch.state = 'staging' AND batch.rows_read IS DISTINCT FROM",
        "IF false AND batch.rows_read IS DISTINCT FROM",
        (f"{_REVERSALS}::test_what_a_crash_of_the_server_took_before_the_beginning_is_missed",),
    ),
    Mutation(
        "sums are those of the rows",
        _MANY,
        "  EXECUTE format('DELETE FROM %s WHERE part = $1', tokenctl.staging_sums(p_batch)) USING p_part;\n",
        "",
        (f"{_MEDDLING}::test_entries_that_are_staged_anew_after_the_plan_change_an_account_by_what_they_are",),
    ),
    Mutation(
        "a batch is reversed by what is available",
        _APPLY,
        "' WHERE h.user_id = a.user_id AND h.state = ''open'' AND",
        "' WHERE h.user_id = a.user_id AND h.state = ''none'' AND",
        (f"{_REVERSALS}::test_a_hold_made_while_the_reversal_waits_is_respected",),
    ),
    Mutation(
        "what was reversed meanwhile is no replay",
        _APPLY,
        "THEN CASE WHEN t.batch_id = $2 THEN 'own' WHEN %5$s THEN 'reversed' ELSE 'replayed' END",
        "THEN CASE WHEN t.batch_id = $2 THEN 'own' ELSE 'replayed' END",
        (f"{_REVERSALS}::test_a_row_whose_entry_was_reversed_meanwhile_is_told_and_no_replay",),
    ),
    Mutation(
        "what a reversal would make too large is told as that",
        _APPLY,
        "THEN CASE WHEN $1 THEN 'too_large' ELSE 'refused' END",
        "THEN 'refused'",
        (f"{_REVERSALS}::test_what_becomes_too_large_after_the_plan_is_told_as_that",),
    ),
    Mutation(
        "what the plan left out is judged so",
        _APPLY,
        "            WHEN s.left_out IS NOT NULL THEN s.left_out\n",
        "",
        (f"{_REVERSALS}::test_what_the_plan_left_out_stays_left_out",),
    ),
    Mutation(
        "a slice of which the plan left something out is judged",
        _APPLY,
        "SELECT EXISTS (SELECT FROM %s s WHERE left_out IS NOT NULL)",
        "SELECT false FROM %s s LIMIT 1",
        (f"{_REVERSALS}::test_what_the_plan_left_out_stays_left_out",),
    ),
    Mutation(
        "a slice of a reversal that left something out is judged again",
        _APPLY,
        " OR p_refused AND l.refused > 0);",
        ");",
        (f"{_REVERSALS}::test_a_finished_slice_that_left_something_out_is_judged_again",),
    ),
    Mutation(
        "what counts again is reversed by its newest link",
        _MANY,
        "ORDER BY user_id, bottom, n DESC) newest",
        "ORDER BY user_id, bottom, n) newest",
        (
            f"{_REVERSALS}::test_what_was_given_back_singly_is_reversed_by_its_newest_link",
            _CHAINS,
        ),
    ),
    Mutation(
        "what a batch gave back is told",
        _MANY,
        "CASE WHEN batch_id = ANY ($6) THEN batch_id END",
        "NULL::text",
        (f"{_REVERSALS}::test_what_a_batch_gave_back_is_left_to_the_reversal_of_that_batch",),
    ),
    Mutation(
        "what a batch gave back is known in every time zone",
        _MANY,
        "(b.options ->> 'until')::timestamptz IS NOT DISTINCT FROM (batch.options ->> 'until')::timestamptz",
        "b.options ->> 'until' IS NOT DISTINCT FROM batch.options ->> 'until'",
        (f"{_CHAINS}::test_what_a_batch_gave_back_is_known_in_every_time_zone",),
    ),
    Mutation(
        "a balance that a reversal would make too large is known before",
        _MANY,
        "WHEN a.balance + w.given > 9007199254740991 THEN",
        "WHEN false THEN",
        ("tests/cli/test_reverse_many.py::test_a_balance_above_the_limit_on_the_way_leaves_that_user_out",),
    ),
    Mutation(
        "a reversal that was cut off is finished though others were given back since",
        _SETS,
        "self.given_back is not None and not self.resumes:",
        "self.given_back is not None:",
        (f"{_CHAINS}::test_one_that_was_cut_off_is_finished_though_others_came_back",),
    ),
    Mutation(
        "a reversal takes a name that no other work has",
        _SETS,
        "next(name for name in names if self.store.batch(name) is None)",
        "_batch_id(self.asked.chosen, len(self.store.reversals(self.asked.chosen)))",
        (f"{_CONFIRMED}::test_a_name_that_other_work_has_taken_is_passed_over",),
    ),
    Mutation(
        "a reversal that is resumed is held to what was confirmed",
        _SETS,
        "self._confirmed() if self.resumes else self.limits.batch_total",
        "self.total if self.resumes else self.limits.batch_total",
        (f"{_CONFIRMED}::test_a_resumed_reversal_moves_no_more_than_was_confirmed",),
    ),
)
