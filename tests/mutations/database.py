"""The guards that stand in the database."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_TABLES = "sql/migrations/0001_ledger.sql"
_READING = "sql/functions/020_reading.sql"
_POST_ONE = "sql/functions/030_post_one.sql"
_POST = "sql/functions/040_post.sql"
_STAGING = "sql/functions/050_import_staging.sql"
_PLAN = "sql/functions/060_import_plan.sql"
_APPLY = "sql/functions/070_import_apply.sql"
_SEAL = "sql/functions/080_seal.sql"
_GENERATIONS = "sql/functions/100_generations.sql"
_BATCHES = "tests/integration/test_batches.py"
_MEDDLING = "tests/integration/test_batch_meddling.py"
_CONSTRAINTS = "tests/integration/test_constraints.py"
_RESUMED = "tests/cli/test_resumed_imports.py"
_GIVEN_UP = "tests/cli/test_given_up_batches.py"
_CRASH = "tests/integration/test_import_crash.py"
_JOBS = "tests/integration/test_generations.py"
_MODEL = "tests/integration/test_batch_model.py"
_POSTING = "tests/integration/test_posting.py"
_RELEASES = "tests/integration/test_generation_releases.py"
_ROLES = "tests/integration/test_roles.py"

DATABASE = (
    Mutation(
        "an idempotency key is unique for its user",
        _TABLES,
        "  CONSTRAINT idempotency_key_once UNIQUE (user_id, idempotency_key),\n",
        "",
        (_MODEL, f"{_BATCHES}::test_what_was_granted_between_plan_and_apply_is_sorted_out"),
    ),
    Mutation(
        "a transaction has one reversal",
        _TABLES,
        "CREATE UNIQUE INDEX reversed_once",
        "CREATE INDEX reversed_once",
        (_CONSTRAINTS,),
    ),
    Mutation(
        "a hold has one key",
        _TABLES,
        "  CONSTRAINT hold_key_once UNIQUE (user_id, idempotency_key),\n",
        "",
        (_CONSTRAINTS,),
    ),
    Mutation(
        "a file's rows all have an end",
        "sql/migrations/0013_reversals_add_up.sql",
        "state <> 'done' OR rows_read",
        "true OR rows_read",
        (_CONSTRAINTS,),
    ),
    Mutation(
        "a slice that was posted with other rows is judged again",
        _APPLY,
        "    AND ((l.staged, l.staged_lines) IS DISTINCT FROM (c.staged, c.lines) OR",
        "    AND (l.staged <> l.staged OR",
        (_RESUMED,),
    ),
    Mutation(
        "what a batch posted before is its own",
        _APPLY,
        "  IF v_own < lane.applied THEN",
        "  IF false THEN",
        (_RESUMED,),
    ),
    Mutation(
        "nobody changes rows while they are posted",
        _APPLY,
        "  EXECUTE format('LOCK TABLE %s IN SHARE MODE', tokenctl.staging_part(p_batch, p_part));\n",
        "",
        (f"{_MEDDLING}::test_nobody_changes_the_rows_of_a_slice_while_it_is_posted",),
    ),
    Mutation(
        "a run posts what it has planned itself",
        _APPLY,
        "  IF batch.request_id <> p_request_id THEN",
        "  IF false THEN",
        (_RESUMED,),
    ),
    Mutation(
        "who opens an unfinished batch has it from then on",
        _STAGING,
        "  batch.request_id := coalesce(batch.opened_as ->> 'request_id', batch.request_id);\n",
        "",
        (f"{_MEDDLING}::test_a_run_that_lost_its_batch_posts_nothing_once_another_of_its_login_has_opened_it",),
    ),
    Mutation(
        "who only looks at an unfinished batch leaves no name in it",
        _STAGING,
        "    UPDATE tokenctl.import_batches b SET opened_as = NULL WHERE b.batch_id = p_batch;\n",
        "",
        (_GIVEN_UP,),
    ),
    Mutation(
        "a reversal that died before it began leaves nothing to the next",
        "sql/functions/075_reversals.sql",
        "  WHERE b.batch_id = p_batch AND b.state = 'staging'\n    AND (b.reverses_batch",
        "  WHERE false\n    AND (b.reverses_batch",
        (_GIVEN_UP,),
    ),
    Mutation(
        "what is left out is what was found",
        "sql/functions/060_import_plan.sql",
        "  IF cardinality(p_drop) > 0 THEN",
        "  IF false THEN",
        (_RESUMED,),
    ),
    Mutation(
        "a slice's rows all have an end",
        _TABLES,
        "CONSTRAINT lane_adds_up CHECK (state = 'pending' OR applied",
        "CONSTRAINT lane_adds_up CHECK (true OR applied",
        (_CONSTRAINTS,),
    ),
    Mutation(
        "a user who comes into being meanwhile stops no import",
        _APPLY,
        "IF SQLSTATE = '23505' AND current_setting('transaction_isolation') <> 'read committed' THEN",
        "IF false THEN",
        ("tests/faults/test_statements.py::test_a_user_who_comes_into_being_while_a_slice_is_posted_stops_no_import",),
    ),
    Mutation(
        "no staged line leaves its user's place in the running sum",
        _STAGING,
        " AND line >> 40 = 0",
        "",
        ("tests/integration/test_batch_meddling.py::test_no_client_stages_what_no_file_can_say",),
    ),
    Mutation(
        "no balance is negative or too large for JSON",
        _TABLES,
        "CONSTRAINT balance_range CHECK (balance BETWEEN 0 AND 9007199254740991)",
        "CONSTRAINT balance_range CHECK (true)",
        (_CONSTRAINTS,),
    ),
    Mutation(
        "entries are not deleted",
        _TABLES,
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tokenctl.token_transactions",
        "CREATE TRIGGER append_only BEFORE UPDATE ON tokenctl.token_transactions",
        (f"{_ROLES}::test_not_even_a_superuser_edits_history_in_passing",),
    ),
    Mutation(
        "triggers fire for replication too",
        _TABLES,
        "    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', target.name, target.tgname);",
        "    NULL;",
        (f"{_ROLES}::test_not_even_a_superuser_edits_history_in_passing",),
    ),
    Mutation(
        "no partition is truncated",
        _TABLES,
        "    WHERE c.relnamespace = 'tokenctl'::regnamespace AND c.relkind IN ('r', 'p')\n",
        "    WHERE c.relnamespace = 'tokenctl'::regnamespace AND c.relkind IN ('p')\n",
        (f"{_ROLES}::test_truncate_is_refused_on_every_partition",),
    ),
    Mutation(
        "a hold ends at its deadline",
        _READING,
        "h.state = 'open' AND h.expires_at > clock_timestamp()",
        "h.state = 'open'",
        (f"{_POSTING}::test_a_hold_past_its_deadline_or_released_no_longer_counts",),
    ),
    Mutation(
        "adjustments are for admins",
        _READING,
        "pg_has_role(session_user, 'tokenctl_admin', 'MEMBER')\n",
        "true\n",
        (f"{_POSTING}::test_which_role_may_post_which_kind",),
    ),
    Mutation(
        "a post locks the account first",
        _POST_ONE,
        "WHERE a.user_id = p_user_id FOR NO KEY UPDATE",
        "WHERE a.user_id = p_user_id",
        (f"{_POSTING}::test_twins_that_post_at_once_post_once",),
    ),
    Mutation(
        "a key with other content is a conflict",
        _POST_ONE,
        "p_reverses_seq) THEN 'conflict'",
        "p_reverses_seq) AND false THEN 'conflict'",
        (f"{_POSTING}::test_one_key_with_other_content_is_a_conflict_and_changes_nothing",),
    ),
    Mutation(
        "what is held is not available",
        _POST_ONE,
        "IF p_amount < 0 AND account.balance - receipt.held + p_amount < 0 THEN",
        "IF p_amount < 0 AND account.balance + p_amount < 0 THEN",
        (f"{_POSTING}::test_held_tokens_cannot_be_taken_back",),
    ),
    Mutation(
        "time never runs against seq",
        _POST_ONE,
        "updated_at = greatest(clock_timestamp(), a.updated_at)",
        "updated_at = clock_timestamp()",
        (f"{_POSTING}::test_time_never_runs_against_seq",),
    ),
    Mutation(
        "the replay of a reversed grant is told",
        _POST_ONE,
        "      WHEN receipt.reversed_by IS NOT NULL THEN 'replay_reversed'\n",
        "",
        (f"{_POSTING}::test_the_replay_of_a_reversed_grant_is_refused_until_the_reversal_is_undone",),
    ),
    Mutation(
        "a reversal locks before it looks",
        _POST,
        "    PERFORM FROM tokenctl.token_accounts a WHERE a.user_id = p_user_id FOR NO KEY UPDATE;",
        "    PERFORM FROM tokenctl.token_accounts a WHERE a.user_id = p_user_id;",
        (f"{_POSTING}::test_reversals_at_once_are_one",),
    ),
    Mutation(
        "a conflict is of a key that somebody chose",
        _POST,
        "coalesce(p_key, '') IN ('', 'reverse:' || p_seq) THEN",
        "false THEN",
        (f"{_POSTING}::test_a_second_reversal_is_a_conflict_only_of_a_key_that_somebody_chose",),
    ),
    Mutation(
        "a function of the owner pins its search path",
        _POST,
        "p_claimed_by text, p_new_user boolean\n) RETURNS tokenctl.receipt_v1\n"
        "  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET",
        "p_claimed_by text, p_new_user boolean\n) RETURNS tokenctl.receipt_v1\n  LANGUAGE plpgsql SECURITY DEFINER SET",
        (f"{_ROLES}::test_every_definer_function_pins_its_search_path",),
    ),
    Mutation(
        "nobody else may call what posts",
        _POST,
        "tokenctl.reverse_v1(text, bigint, text, text, text, text, text, text) FROM PUBLIC;",
        "tokenctl.reverse_v1(text, bigint, text, text, text, text, text, text) FROM tokenctl_reader;",
        (f"{_ROLES}::test_no_function_is_open_to_everybody",),
    ),
    Mutation(
        "a batch is its operator's own",
        _STAGING,
        " AND coalesce(b.opened_as ->> 'operator', b.operator) = session_user AND b.state <> 'done'",
        " AND b.state <> 'done'",
        (f"{_MEDDLING}::test_nobody_takes_a_step_in_the_batch_of_another",),
    ),
    Mutation(
        "a batch is opened under its lock",
        _STAGING,
        "  IF NOT EXISTS (\n    SELECT FROM pg_locks",
        "  IF false AND NOT EXISTS (\n    SELECT FROM pg_locks",
        (f"{_MEDDLING}::test_a_lock_is_needed_and_is_free_when_its_holder_died",),
    ),
    Mutation(
        "staging is closed before it is judged",
        _STAGING,
        "EXECUTE format('REVOKE INSERT (line, user_id, amount, kind, reason, note, ticket, idempotency_key)"
        " ON %s FROM %I',\n    tokenctl.staging_table(p_batch), session_user);",
        "NULL;",
        (f"{_MEDDLING}::test_no_row_enters_after_the_seal",),
    ),
    Mutation(
        "every reason is held to its form",
        _PLAN,
        "  IF sums.other_reasons THEN",
        "  IF false THEN",
        (f"{_MEDDLING}::test_a_reason_that_comes_late_in_the_file_is_held_to_its_form",),
    ),
    Mutation(
        "a staged row lacks nothing",
        _STAGING,
        "reason IS NOT NULL AND %s) IS TRUE)",
        "reason IS NOT NULL AND %s))",
        (f"{_MEDDLING}::test_no_client_stages_what_no_file_can_say",),
    ),
    Mutation(
        "a batch's id belongs to one file",
        _STAGING,
        "WHERE b.file_sha256 = excluded.file_sha256 AND b.options - 'asked' = excluded.options;",
        "WHERE true;",
        (f"{_MEDDLING}::test_an_id_belongs_to_one_piece_of_work",),
    ),
    Mutation(
        "equal rows of a file count once",
        _PLAN,
        "HAVING count(*) > 1 AND count(DISTINCT (kind, amount, reason, ticket)) = 1) k",
        "HAVING false) k",
        (f"{_BATCHES}::test_equal_rows_count_once",),
    ),
    Mutation(
        "unequal rows of one key are bad",
        _PLAN,
        "HAVING count(*) > 1 AND count(DISTINCT (kind, amount, reason, ticket)) > 1) k",
        "HAVING false) k",
        (f"{_BATCHES}::test_unequal_rows_of_one_key_are_all_bad",),
    ),
    Mutation(
        "a slice is posted once",
        _APPLY,
        "IF NOT FOUND OR lane.state = 'done' THEN",
        "IF NOT FOUND THEN",
        (f"{_BATCHES}::test_two_sessions_that_post_the_same_lanes_post_once",),
    ),
    Mutation(
        "one multi-user post at a time in a partition",
        _APPLY,
        "  PERFORM pg_advisory_xact_lock(hashtext('tokenctl partition'), p_part);\n",
        "",
        (f"{_CRASH}::test_an_import_killed_at_every_step_counts_every_row_once",),
    ),
    Mutation(
        "a slice is judged again when somebody made an account meanwhile",
        _APPLY,
        "      IF v_after = v_before THEN",
        "      IF true THEN",
        (f"{_BATCHES}::test_a_user_who_comes_into_being_while_a_slice_is_sorted_is_judged_as_he_then_is",),
    ),
    Mutation(
        "a seal holds the head before it",
        _SEAL,
        "'seal1:' || coalesce(seal.previous, '-')",
        "'seal1:' || '-'",
        ("tests/integration/test_seals.py::test_a_seal_is_what_is_written_down",),
    ),
    Mutation(
        "a balance is the sum of its entries, says verify",
        "sql/queries/verify_ledger.sql",
        "('balance', b.balance <> b.tokens)",
        "('balance', false)",
        ("tests/integration/test_verify.py::test_what_is_broken_is_found_and_named",),
    ),
    Mutation(
        "a hold needs what is available",
        _GENERATIONS,
        "  IF answer.available < p_amount THEN",
        "  IF answer.balance < p_amount THEN",
        (f"{_JOBS}::test_a_hold_needs_what_is_available", f"{_JOBS}::test_two_jobs_at_once_hold_no_more_than_there_is"),
    ),
    Mutation(
        "one request at a time has the lease",
        _GENERATIONS,
        "      WHEN made.lease_until > v_now AND made.lease_by <> p_lease_by THEN 'busy'\n",
        "",
        (f"{_JOBS}::test_eight_claims_at_once_are_one",),
    ),
    Mutation(
        "a claim has a name, its times and a limit",
        _GENERATIONS,
        "p_max_attempts >= 0) IS NOT TRUE THEN",
        "p_max_attempts >= 0) IS FALSE THEN",
        (f"{_JOBS}::test_a_claim_says_whose_it_is_for_how_long_and_of_how_many",),
    ),
    Mutation(
        "nobody is not who has the lease",
        _GENERATIONS,
        "AND made.lease_by IS DISTINCT FROM p_lease_by",
        "AND made.lease_by <> p_lease_by",
        (f"{_JOBS}::test_nobody_is_not_who_has_the_lease",),
    ),
    Mutation(
        "what was made again since it was seen past its deadline stays",
        _GENERATIONS,
        "answer.outcome = 'open' AND p_past_only IS NOT FALSE AND answer.expires_at > clock_timestamp() THEN",
        "false THEN",
        (f"{_RELEASES}::test_only_what_is_past_is_released_for_its_deadline_s_sake",),
    ),
    Mutation(
        "what another run released is not this run's doing",
        _GENERATIONS,
        "made.released_run IS DISTINCT FROM p_lease_by THEN",
        "false THEN",
        (f"{_RELEASES}::test_a_release_is_the_run_s_own_or_told_as_another_s",),
    ),
    Mutation(
        "only who claimed it last is paid",
        _GENERATIONS,
        "g.generation_id = p_generation_id AND g.lease_by = p_lease_by)\n",
        "g.generation_id = p_generation_id)\n",
        (f"{_JOBS}::test_only_who_claimed_it_last_is_paid",),
    ),
    Mutation(
        "the provider is called so often and no more",
        _GENERATIONS,
        "      WHEN made.attempts >= p_max_attempts THEN 'exhausted'\n",
        "",
        (f"{_JOBS}::test_one_request_at_a_time_may_call_and_so_often",),
    ),
)
