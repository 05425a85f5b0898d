-- An invented backlog in the shape of the legacy family, with its oddities: categories and
-- complexities in several spellings, two formats of time, scopes in several shapes and one that is
-- plain text, a phase in a tier of another run, usage of a run that is gone, and a split between
-- prompt and completion tokens that nobody measured.

CREATE TABLE runs (
  id VARCHAR NOT NULL, state VARCHAR(33) NOT NULL, created_at DATETIME NOT NULL, updated_at
  DATETIME NOT NULL, started_at DATETIME, completed_at DATETIME, safety_profile VARCHAR NOT
  NULL, run_scope VARCHAR NOT NULL, token_cap INTEGER NOT NULL, max_phases INTEGER NOT NULL,
  max_duration_minutes INTEGER NOT NULL, max_minor_issues_total INTEGER, tokens_used INTEGER NOT
  NULL, ci_runs_used INTEGER NOT NULL, minor_issues_count INTEGER NOT NULL, major_issues_count
  INTEGER NOT NULL, promotion_eligible_to_main VARCHAR NOT NULL, debt_status VARCHAR,
  failure_reason TEXT, goal_anchor TEXT, PRIMARY KEY (id)
);
CREATE TABLE tiers (
  id INTEGER PRIMARY KEY, tier_id VARCHAR NOT NULL, run_id VARCHAR NOT NULL, tier_index INTEGER
  NOT NULL, name VARCHAR NOT NULL, description TEXT, state VARCHAR(11) NOT NULL, token_cap
  INTEGER, ci_run_cap INTEGER, max_minor_issues_tolerated INTEGER, max_major_issues_tolerated
  INTEGER NOT NULL, tokens_used INTEGER NOT NULL, ci_runs_used INTEGER NOT NULL,
  minor_issues_count INTEGER NOT NULL, major_issues_count INTEGER NOT NULL, cleanliness VARCHAR
  NOT NULL, created_at DATETIME NOT NULL, updated_at DATETIME NOT NULL, started_at DATETIME,
  completed_at DATETIME, FOREIGN KEY (run_id) REFERENCES runs (id)
);
CREATE TABLE phases (
  id INTEGER PRIMARY KEY, phase_id VARCHAR NOT NULL, run_id VARCHAR NOT NULL, tier_id INTEGER
  NOT NULL, phase_index INTEGER NOT NULL, name VARCHAR NOT NULL, description TEXT, state
  VARCHAR(10) NOT NULL, task_category VARCHAR, complexity VARCHAR, builder_mode VARCHAR,
  max_builder_attempts INTEGER, max_auditor_attempts INTEGER, incident_token_cap INTEGER,
  builder_attempts INTEGER NOT NULL, auditor_attempts INTEGER NOT NULL, tokens_used INTEGER NOT
  NULL, minor_issues_count INTEGER NOT NULL, major_issues_count INTEGER NOT NULL, issue_state
  VARCHAR NOT NULL, quality_level VARCHAR, quality_blocked BOOLEAN NOT NULL, created_at DATETIME
  NOT NULL, updated_at DATETIME NOT NULL, started_at DATETIME, completed_at DATETIME, scope
  JSON, retry_attempt INTEGER NOT NULL DEFAULT 0, revision_epoch INTEGER NOT NULL DEFAULT 0,
  escalation_level INTEGER NOT NULL DEFAULT 0, last_attempt_timestamp DATETIME,
  last_failure_reason TEXT, FOREIGN KEY (tier_id) REFERENCES tiers (id), FOREIGN KEY (run_id)
  REFERENCES runs (id)
);
CREATE TABLE llm_usage_events (
  id INTEGER PRIMARY KEY, provider VARCHAR NOT NULL, model VARCHAR NOT NULL, run_id VARCHAR,
  phase_id VARCHAR, role VARCHAR NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens
  INTEGER NOT NULL, created_at DATETIME NOT NULL, is_doctor_call BOOLEAN NOT NULL DEFAULT 0,
  doctor_model TEXT, doctor_action TEXT
);
CREATE TABLE token_estimation_v2_events (
  event_id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, phase_id TEXT NOT NULL,
  timestamp TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, category TEXT NOT NULL, complexity
  TEXT NOT NULL CHECK (complexity IN ('low','medium','high','maintenance')), deliverable_count
  INTEGER NOT NULL, deliverables_json TEXT NOT NULL, predicted_output_tokens INTEGER NOT NULL,
  actual_output_tokens INTEGER NOT NULL, selected_budget INTEGER NOT NULL, success BOOLEAN NOT
  NULL, truncated BOOLEAN NOT NULL DEFAULT 0, stop_reason TEXT, model TEXT NOT NULL,
  smape_percent REAL, waste_ratio REAL, underestimated BOOLEAN, created_at TIMESTAMP NOT NULL
  DEFAULT CURRENT_TIMESTAMP, is_truncated_output BOOLEAN NOT NULL DEFAULT FALSE,
  api_reference_required BOOLEAN, examples_required BOOLEAN, research_required BOOLEAN,
  usage_guide_required BOOLEAN, context_quality VARCHAR, FOREIGN KEY (run_id, phase_id)
  REFERENCES phases (run_id, phase_id) ON DELETE CASCADE, FOREIGN KEY (run_id) REFERENCES runs
  (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX uq_phases_run_id_phase_id ON phases (run_id, phase_id);

INSERT INTO runs (
  id, state, created_at, updated_at, started_at, completed_at, safety_profile, run_scope, token_cap, max_phases, max_duration_minutes, tokens_used, ci_runs_used, minor_issues_count, major_issues_count, promotion_eligible_to_main, debt_status, failure_reason, goal_anchor
) VALUES
  ('webshop-search-v1', 'PHASE_EXECUTION', '2025-11-03T09:01:07.104729', '2025-11-03 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 4, 120, 0, 0, 0, 0, 'false', NULL, NULL, 'Let customers find products by name, tag and price.'),
  ('webshop-checkout-v1', 'DONE_FAILED_REQUIRES_HUMAN_REVIEW', '2025-11-04 09:01:07.104729', '2025-11-04 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 4, 120, 0, 0, 0, 0, 'false', NULL, 'PAYMENT_REVIEW_PENDING', 'Take an order from basket to receipt.'),
  ('docs-refresh-v2', 'QUEUED', '2025-11-05 09:01:07.104729', '2025-11-05 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 3, 120, 0, 0, 0, 0, 'false', NULL, NULL, 'Bring the handbook up to the current release.'),
  ('nightly-import-orders', 'DONE_FAILED_REQUIRES_HUMAN_REVIEW', '2025-11-06 09:01:07.104729', '2025-11-06 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 3, 120, 0, 0, 0, 0, 'false', NULL, 'SCHEMA_MISSING', 'Load orders from the warehouse every night.'),
  ('nightly-import-customers', 'DONE_FAILED_REQUIRES_HUMAN_REVIEW', '2025-11-07 09:01:07.104729', '2025-11-07 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 3, 120, 0, 0, 0, 0, 'false', NULL, 'SCHEMA_MISSING', 'Load customers from the warehouse every night.'),
  ('nightly-import-invoices', 'DONE_FAILED_REQUIRES_HUMAN_REVIEW', '2025-11-08 09:01:07.104729', '2025-11-08 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 3, 120, 0, 0, 0, 0, 'false', NULL, 'SCHEMA_MISSING', 'Load invoices from the warehouse every night.'),
  ('nightly-import-stock', 'DONE_FAILED_REQUIRES_HUMAN_REVIEW', '2025-11-09 09:01:07.104729', '2025-11-09 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 3, 120, 0, 0, 0, 0, 'false', NULL, 'SCHEMA_MISSING', 'Load stock from the warehouse every night.'),
  ('nightly-import-prices', 'DONE_FAILED_REQUIRES_HUMAN_REVIEW', '2025-11-10 09:01:07.104729', '2025-11-10 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 3, 120, 0, 0, 0, 0, 'false', NULL, 'SCHEMA_MISSING', 'Load prices from the warehouse every night.'),
  ('nightly-import-returns', 'DONE_FAILED_REQUIRES_HUMAN_REVIEW', '2025-11-11 09:01:07.104729', '2025-11-11 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 3, 120, 0, 0, 0, 0, 'false', NULL, 'SCHEMA_MISSING', 'Load returns from the warehouse every night.'),
  ('media-transcode-v1', 'DONE_FAILED_REQUIRES_HUMAN_REVIEW', '2025-11-13 09:01:07.104729', '2025-11-13 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 3, 120, 0, 0, 0, 0, 'false', NULL, 'TIMEOUT', 'Turn uploads into web formats.'),
  ('contract-summary-v1', 'DONE_FAILED_REQUIRES_HUMAN_REVIEW', '2025-11-14 09:01:07.104729', '2025-11-14 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 3, 120, 0, 0, 0, 0, 'false', NULL, 'CONTEXT_LIMIT', 'Summarise supplier contracts.'),
  ('legacy-port-v3', 'DONE_FAILED_REQUIRES_HUMAN_REVIEW', '2025-11-15 09:01:07.104729', '2025-11-15 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 4, 120, 0, 0, 0, 0, 'false', NULL, NULL, 'Move the old reports to the new service.'),
  ('search-ranking-v1', 'DONE_FAILED_REQUIRES_HUMAN_REVIEW', '2025-11-17 09:01:07.104729', '2025-11-17 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 3, 120, 0, 0, 0, 0, 'false', NULL, NULL, 'Rank search results by what customers buy.'),
  ('config-tidy-v1', 'RUN_CREATED', '2025-11-18 09:01:07.104729', '2025-11-18 10:30:30.425610', NULL, NULL, 'normal', 'multi_tier', 500000, 3, 120, 0, 0, 0, 0, 'false', NULL, NULL, 'Tidy the configuration files.');

INSERT INTO tiers (
  id, tier_id, run_id, tier_index, name, description, state, ci_run_cap, max_major_issues_tolerated, tokens_used, ci_runs_used, minor_issues_count, major_issues_count, cleanliness, created_at, updated_at
) VALUES
  (1, 'T1', 'webshop-search-v1', 0, 'Search', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-03T09:01:07.104729', '2025-11-03T09:01:07.104729'),
  (2, 'T1', 'webshop-checkout-v1', 0, 'Basket', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-04 09:01:07.104729', '2025-11-04 09:01:07.104729'),
  (3, 'T2', 'webshop-checkout-v1', 1, 'Payment', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-04 09:01:07.104729', '2025-11-04 09:01:07.104729'),
  (4, 'handbook', 'docs-refresh-v2', 0, 'Handbook', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-05 09:01:07.104729', '2025-11-05 09:01:07.104729'),
  (5, 'T1', 'nightly-import-orders', 0, 'Import', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-06 09:01:07.104729', '2025-11-06 09:01:07.104729'),
  (6, 'T1', 'nightly-import-customers', 0, 'Import', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-07 09:01:07.104729', '2025-11-07 09:01:07.104729'),
  (7, 'T1', 'nightly-import-invoices', 0, 'Import', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-08 09:01:07.104729', '2025-11-08 09:01:07.104729'),
  (8, 'T1', 'nightly-import-stock', 0, 'Import', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-09 09:01:07.104729', '2025-11-09 09:01:07.104729'),
  (9, 'T1', 'nightly-import-prices', 0, 'Import', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-10 09:01:07.104729', '2025-11-10 09:01:07.104729'),
  (10, 'T1', 'nightly-import-returns', 0, 'Import', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-11 09:01:07.104729', '2025-11-11 09:01:07.104729'),
  (11, 'T1', 'media-transcode-v1', 0, 'Media', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-13 09:01:07.104729', '2025-11-13 09:01:07.104729'),
  (12, 'T1', 'contract-summary-v1', 0, 'Contracts', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-14 09:01:07.104729', '2025-11-14 09:01:07.104729'),
  (13, 'T1', 'legacy-port-v3', 0, 'Reports', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-15 09:01:07.104729', '2025-11-15 09:01:07.104729'),
  (14, 'T2', 'legacy-port-v3', 1, 'Cleanup', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-15 09:01:07.104729', '2025-11-15 09:01:07.104729'),
  (15, 'T1', 'search-ranking-v1', 0, 'Ranking', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-17 09:01:07.104729', '2025-11-17 09:01:07.104729'),
  (16, 'T1', 'config-tidy-v1', 0, 'Configuration', NULL, 'PENDING', 20, 0, 0, 0, 0, 0, 'clean', '2025-11-18 09:01:07.104729', '2025-11-18 09:01:07.104729');

INSERT INTO phases (
  id, phase_id, run_id, tier_id, phase_index, name, description, state, task_category, complexity, builder_mode, max_builder_attempts, max_auditor_attempts, incident_token_cap, builder_attempts, auditor_attempts, tokens_used, minor_issues_count, major_issues_count, issue_state, quality_level, quality_blocked, created_at, updated_at, scope, retry_attempt, last_failure_reason
) VALUES
  (1, 'search-index', 'webshop-search-v1', 1, 0, 'Build the product index', 'Write an index over names and tags that is rebuilt in under a minute.', 'COMPLETE', 'IMPLEMENT_FEATURE', 'medium', 'standard', 3, 2, 50000, 1, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-03T09:02:14.209458', '2025-11-03 10:00:00.283740', '{"deliverables": ["shop/search/index.py"], "read_only_context": ["shop/models.py"]}', 0, NULL),
  (2, 'search-query', 'webshop-search-v1', 1, 1, 'Answer queries', 'Parse a query, rank the hits and return a page of them.', 'FAILED', 'IMPLEMENT_FEATURE', 'high', 'standard', 3, 2, 50000, 2, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-03T09:03:21.314187', '2025-11-03 10:01:07.388469', '{"deliverables": ["shop/search/query.py"], "read_only_context": ["shop/search/index.py"]}', 2, NULL),
  (3, 'search-tests', 'webshop-search-v1', 1, 2, 'Test the search', 'Cover empty queries, typing errors and paging.', 'QUEUED', 'testing', 'medium', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-03T09:04:28.418916', '2025-11-03 10:02:14.493198', '{"deliverables": [{"path": "tests/test_search.py", "description": "unit tests", "acceptance": "all green"}], "read_only_context": ["shop/search/query.py"]}', 0, NULL),
  (4, 'search-docs', 'webshop-search-v1', 1, 3, 'Describe the query language', 'One page for shop owners, with ten examples.', 'QUEUED', 'documentation', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-03T09:05:35.523645', '2025-11-03 10:03:21.597927', '{"deliverables": ["docs/search.md (for shop owners)"], "read_only_context": ["shop/search/query.py"]}', 0, NULL),
  (5, 'basket-model', 'webshop-checkout-v1', 2, 0, 'Model the basket', 'Items, amounts and prices at the time of adding.', 'FAILED', 'backend', 'medium', 'standard', 3, 2, 50000, 1, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-04 09:02:14.209458', '2025-11-04 10:00:00.283740', '{"paths": ["shop/basket/"], "read_only_context": ["shop/models.py"]}', 0, 'DELIVERABLES_VALIDATION_FAILED'),
  (6, 'basket-page', 'webshop-checkout-v1', 2, 1, 'Show the basket', 'Change amounts and remove items without a reload.', 'QUEUED', 'frontend', 'MEDIUM', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-04 09:03:21.314187', '2025-11-04 10:01:07.388469', '{"paths": ["web/basket/"], "read_only_context": ["shop/basket/"]}', 0, NULL),
  (7, 'payment-intent', 'webshop-checkout-v1', 3, 0, 'Ask for the payment', 'Create a payment with the provider and wait for its answer.', 'QUEUED', 'backend', 'HIGH', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-04 09:02:14.209458', '2025-11-04 10:00:00.283740', '{"paths": ["shop/payment/"], "read_only_context": ["shop/basket/"]}', 0, NULL),
  (8, 'receipt-mail', 'webshop-checkout-v1', 3, 1, 'Send the receipt', 'One mail per order, never two.', 'GATE', 'backend', 'low', 'standard', 3, 2, 50000, 1, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-04 09:03:21.314187', '2025-11-04 10:01:07.388469', '{"paths": ["shop/mail/"], "read_only_context": []}', 0, NULL),
  (9, 'handbook-outline', 'docs-refresh-v2', 4, 0, 'Outline the handbook', 'A table of contents that follows what operators do.', 'COMPLETE', 'docs', 'SIMPLE', 'standard', 3, 2, 50000, 1, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-05 09:02:14.209458', '2025-11-05 10:00:00.283740', '{"deliverables": {"docs": ["docs/handbook/outline.md"]}}', 0, NULL),
  (10, 'handbook-install', 'docs-refresh-v2', 4, 1, 'Installation chapter', 'From an empty machine to the first order.', 'QUEUED', 'docs', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-05 09:03:21.314187', '2025-11-05 10:01:07.388469', '{"deliverables": {"docs": ["docs/handbook/install.md"], "tests": ["tests/test_install_page.py"]}, "read_only_context": ["docs/handbook/outline.md"]}', 0, NULL),
  (11, 'handbook-operate', 'docs-refresh-v2', 4, 2, 'Operations chapter', 'Backups, upgrades and what to do at night.', 'FAILED', 'documentation', 'medium', 'standard', 3, 2, 50000, 1, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-05 09:04:28.418916', '2025-11-05 10:02:14.493198', '{"deliverables": {"docs": ["docs/handbook/operate.md", "Screenshots of every dialog"]}, "read_only_context": ["docs/handbook/outline.md"]}', 0, 'PATCH_FAILED'),
  (12, 'import-orders-reader', 'nightly-import-orders', 5, 0, 'Read orders', 'Read the nightly file of orders and refuse broken lines with their number.', 'FAILED', 'IMPLEMENT_FEATURE', 'medium', 'standard', 3, 2, 50000, 5, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-06 09:02:14.209458', '2025-11-06 10:00:00.283740', '{"paths": ["nightly/orders.py"], "read_only_context": ["nightly/schema.py"]}', 5, 'MAX_ATTEMPTS_EXHAUSTED'),
  (13, 'import-orders-mapping', 'nightly-import-orders', 5, 1, 'Map orders', 'Map every order to our own model.', 'FAILED', 'backend', 'medium', 'standard', 3, 2, 50000, 1, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-06 09:03:21.314187', '2025-11-06 10:01:07.388469', '{"paths": ["nightly/orders_map.py"], "read_only_context": ["nightly/orders.py"]}', 0, 'MAX_ATTEMPTS_EXHAUSTED'),
  (14, 'import-orders-tests', 'nightly-import-orders', 5, 2, 'Test the import of orders', 'Cover an empty file, a double line and a wrong encoding.', 'QUEUED', 'tests', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-06 09:04:28.418916', '2025-11-06 10:02:14.493198', '{"deliverables": ["tests/test_nightly_orders.py"], "paths": [], "read_only_context": []}', 0, NULL),
  (15, 'import-customers-reader', 'nightly-import-customers', 6, 0, 'Read customers', 'Read the nightly file of customers and refuse broken lines with their number.', 'FAILED', 'backend', 'medium', 'standard', 3, 2, 50000, 5, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-07 09:02:14.209458', '2025-11-07 10:00:00.283740', '{"paths": ["nightly/customers.py"], "read_only_context": ["nightly/schema.py"]}', 5, 'MAX_ATTEMPTS_EXHAUSTED'),
  (16, 'import-customers-mapping', 'nightly-import-customers', 6, 1, 'Map customers', 'Map every customer to our own model.', 'FAILED', 'backend', 'medium', 'standard', 3, 2, 50000, 1, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-07 09:03:21.314187', '2025-11-07 10:01:07.388469', '{"paths": ["nightly/customers_map.py"], "read_only_context": ["nightly/customers.py"]}', 0, NULL),
  (17, 'import-customers-tests', 'nightly-import-customers', 6, 2, 'Test the import of customers', 'Cover an empty file, a double line and a wrong encoding.', 'QUEUED', 'tests', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-07 09:04:28.418916', '2025-11-07 10:02:14.493198', '{"deliverables": ["tests/test_nightly_customers.py"], "paths": [], "read_only_context": []}', 0, NULL),
  (18, 'import-invoices-reader', 'nightly-import-invoices', 7, 0, 'Read invoices', 'Read the nightly file of invoices and refuse broken lines with their number.', 'FAILED', 'IMPLEMENT_FEATURE', 'medium', 'standard', 3, 2, 50000, 5, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-08 09:02:14.209458', '2025-11-08 10:00:00.283740', '{"paths": ["nightly/invoices.py"], "read_only_context": ["nightly/schema.py"]}', 5, 'MAX_ATTEMPTS_EXHAUSTED'),
  (19, 'import-invoices-mapping', 'nightly-import-invoices', 7, 1, 'Map invoices', 'Map every invoice to our own model.', 'FAILED', 'backend', 'MEDIUM-HIGH', 'standard', 3, 2, 50000, 1, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-08 09:03:21.314187', '2025-11-08 10:01:07.388469', '{"paths": ["nightly/invoices_map.py"], "read_only_context": ["nightly/invoices.py"]}', 0, NULL),
  (20, 'import-invoices-tests', 'nightly-import-invoices', 7, 2, 'Test the import of invoices', 'Cover an empty file, a double line and a wrong encoding.', 'QUEUED', 'tests', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-08 09:04:28.418916', '2025-11-08 10:02:14.493198', '{"deliverables": ["tests/test_nightly_invoices.py"], "paths": [], "read_only_context": []}', 0, NULL),
  (21, 'import-stock-reader', 'nightly-import-stock', 8, 0, 'Read stock', 'Read the nightly file of stock and refuse broken lines with their number.', 'FAILED', 'backend', 'medium', 'standard', 3, 2, 50000, 5, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-09 09:02:14.209458', '2025-11-09 10:00:00.283740', '{"paths": ["nightly/stock.py"], "read_only_context": ["nightly/schema.py"]}', 5, 'MAX_ATTEMPTS_EXHAUSTED'),
  (22, 'import-stock-mapping', 'nightly-import-stock', 8, 1, 'Map stock', 'Map every stock item to our own model.', 'QUEUED', 'backend', 'medium', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-09 09:03:21.314187', '2025-11-09 10:01:07.388469', '{"paths": ["nightly/stock_map.py"], "read_only_context": ["nightly/stock.py"]}', 0, NULL),
  (23, 'import-stock-tests', 'nightly-import-stock', 8, 2, 'Test the import of stock', 'Cover an empty file, a double line and a wrong encoding.', 'QUEUED', 'tests', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-09 09:04:28.418916', '2025-11-09 10:02:14.493198', '{"deliverables": ["tests/test_nightly_stock.py"], "paths": [], "read_only_context": []}', 0, NULL),
  (24, 'import-prices-reader', 'nightly-import-prices', 9, 0, 'Read prices', 'Read the nightly file of prices and refuse broken lines with their number.', 'FAILED', 'IMPLEMENT_FEATURE', 'medium', 'standard', 3, 2, 50000, 5, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-10 09:02:14.209458', '2025-11-10 10:00:00.283740', '{"paths": ["nightly/prices.py"], "read_only_context": ["nightly/schema.py"]}', 5, 'MAX_ATTEMPTS_EXHAUSTED'),
  (25, 'import-prices-mapping', 'nightly-import-prices', 9, 1, 'Map prices', 'Map every price to our own model.', 'QUEUED', 'database', 'medium', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-10 09:03:21.314187', '2025-11-10 10:01:07.388469', '{"paths": ["nightly/prices_map.py"], "read_only_context": ["nightly/prices.py"]}', 0, NULL),
  (26, 'import-prices-tests', 'nightly-import-prices', 9, 2, 'Test the import of prices', 'Cover an empty file, a double line and a wrong encoding.', 'QUEUED', 'tests', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-10 09:04:28.418916', '2025-11-10 10:02:14.493198', '{"deliverables": ["tests/test_nightly_prices.py"], "paths": [], "read_only_context": []}', 0, NULL),
  (27, 'import-returns-reader', 'nightly-import-returns', 10, 0, 'Read returns', 'Read the nightly file of returns and refuse broken lines with their number.', 'FAILED', 'backend', 'medium', 'standard', 3, 2, 50000, 5, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-11 09:02:14.209458', '2025-11-11 10:00:00.283740', '{"paths": ["nightly/returns.py"], "read_only_context": ["nightly/schema.py"]}', 5, 'MAX_ATTEMPTS_EXHAUSTED'),
  (28, 'import-returns-mapping', 'nightly-import-returns', 10, 1, 'Map returns', 'Map every return to our own model.', 'QUEUED', 'backend', 'medium', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-11 09:03:21.314187', '2025-11-11 10:01:07.388469', '{"paths": ["nightly/returns_map.py"], "read_only_context": ["nightly/returns.py"]}', 0, NULL),
  (29, 'import-returns-tests', 'nightly-import-returns', 10, 2, 'Test the import of returns', 'Cover an empty file, a double line and a wrong encoding.', 'QUEUED', 'tests', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-11 09:04:28.418916', '2025-11-11 10:02:14.493198', '{"deliverables": ["tests/test_nightly_returns.py"], "paths": [], "read_only_context": []}', 0, NULL),
  (30, 'transcode-video', 'media-transcode-v1', 11, 0, 'Transcode videos', 'Three sizes, with a poster image.', 'FAILED', 'implementation', 'high', 'standard', 3, 2, 50000, 1, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-13 09:02:14.209458', '2025-11-13 10:00:00.283740', '{"paths": ["media/video.py"], "read_only_context": []}', 0, 'Phase timed out after 900 seconds'),
  (31, 'transcode-audio', 'media-transcode-v1', 11, 1, 'Transcode audio', 'One format, loudness levelled.', 'FAILED', 'implementation', 'medium', 'standard', 3, 2, 50000, 1, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-13 09:03:21.314187', '2025-11-13 10:01:07.388469', '{"paths": ["media/audio.py"], "read_only_context": []}', 0, 'Phase timed out after 900 seconds'),
  (32, 'transcode-queue', 'media-transcode-v1', 11, 2, 'Queue the uploads', 'At most four at once; the rest waits in order.', 'QUEUED', 'integration', 'medium', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-13 09:04:28.418916', '2025-11-13 10:02:14.493198', '{"paths": ["media/queue.py"], "read_only_context": ["media/video.py"]}', 0, NULL),
  (33, 'contract-extract', 'contract-summary-v1', 12, 0, 'Extract clauses', 'Find terms, notice periods and prices in each contract.', 'FAILED', 'implementation', 'high', 'standard', 3, 2, 50000, 3, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-14 09:02:14.209458', '2025-11-14 10:00:00.283740', '{"deliverables": ["legal/extract.py"], "goals": ["every clause has its page number"]}', 3, NULL),
  (34, 'contract-summary', 'contract-summary-v1', 12, 1, 'Write summaries', 'Half a page for each contract.', 'QUEUED', 'implementation', 'high', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-14 09:03:21.314187', '2025-11-14 10:01:07.388469', '{"deliverables": ["legal/summary.py"], "read_only_context": ["legal/extract.py"], "dependencies": ["contract-extract"]}', 0, NULL),
  (35, 'contract-report', 'contract-summary-v1', 12, 2, 'Report on all contracts', 'One table, the next notice date first.', 'QUEUED', 'docs', 'medium', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-14 09:04:28.418916', '2025-11-14 10:02:14.493198', '{"deliverables": ["legal/report.md"], "dependencies": ["contract-summary"]}', 0, NULL),
  (36, 'port-daily-report', 'legacy-port-v3', 13, 0, 'Port the daily report', 'The same numbers as before, on the same paper.', 'FAILED', 'refactoring', 'high', 'standard', 3, 2, 50000, 4, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-15 09:02:14.209458', '2025-11-15 10:00:00.283740', '{"paths": ["reports/daily.py"], "read_only_context": ["old/daily.pl"]}', 4, 'PATCH_FAILED'),
  (37, 'port-monthly-report', 'legacy-port-v3', 13, 1, 'Port the monthly report', 'As the daily one, with a chart.', 'FAILED', 'refactoring', 'medium', 'standard', 3, 2, 50000, 2, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-15 09:03:21.314187', '2025-11-15 10:01:07.388469', '{"paths": ["reports/monthly.py"], "read_only_context": ["old/monthly.pl"]}', 2, 'DOCTOR_SKIP: PATCH_FAILED'),
  (38, 'port-settings', 'legacy-port-v3', 14, 0, 'Move the settings', 'One file instead of seven.', 'QUEUED', 'configuration', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-15 09:02:14.209458', '2025-11-15 10:00:00.283740', '"settings of the old reports: one file, commented"', 0, NULL),
  (39, 'port-fix-rounding', 'legacy-port-v3', 14, 1, 'Fix the rounding', 'Amounts differ by a cent between reports.', 'QUEUED', 'bug_fix', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-15 09:03:21.314187', '2025-11-15 10:01:07.388469', NULL, 0, NULL),
  (40, 'ranking-features', 'search-ranking-v1', 15, 0, 'Collect features', 'Clicks, purchases and returns for each product.', 'FAILED', 'IMPLEMENT_FEATURE', 'high', 'standard', 3, 2, 50000, 2, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-17 09:02:14.209458', '2025-11-17 10:00:00.283740', '{"deliverables": ["ranking/features.py"]}', 2, 'DELIVERABLES_VALIDATION_FAILED'),
  (41, 'ranking-model', 'search-ranking-v1', 15, 1, 'Fit the model', 'A model that explains its order.', 'FAILED', 'IMPLEMENT_FEATURE', 'medium', 'standard', 3, 2, 50000, 1, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-17 09:03:21.314187', '2025-11-17 10:01:07.388469', '{"deliverables": ["ranking/model.py"], "read_only_context": ["ranking/features.py"]}', 0, 'collection error in tests/test_ranking.py'),
  (42, 'ranking-tests', 'search-ranking-v1', 15, 2, 'Test the ranking', 'Fixed data, fixed order.', 'QUEUED', 'tests', 'medium', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-17 09:04:28.418916', '2025-11-17 10:02:14.493198', '{"deliverables": ["tests/test_ranking.py"], "read_only_context": ["ranking/model.py"]}', 0, NULL),
  (43, 'config-sort', 'config-tidy-v1', 4, 0, 'Sort the keys', 'Sort every configuration file by key.', 'QUEUED', NULL, NULL, 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-18 09:02:14.209458', '2025-11-18 10:00:00.283740', NULL, 0, NULL),
  (44, 'config-lint', 'config-tidy-v1', 16, 0, 'Lint the files', 'No unknown keys, no tabs.', 'QUEUED', 'deployment', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-18 09:02:14.209458', '2025-11-18 10:00:00.283740', '{"paths": ["config/"], "read_only_context": ["config/"]}', 0, NULL),
  (45, 'config-note', 'config-tidy-v1', 16, 1, 'Note the rules', 'Ten lines in the README.', 'QUEUED', 'bugfix', 'low', 'standard', 3, 2, 50000, 0, 0, 0, 0, 0, 'none', 'standard', 0, '2025-11-18 09:03:21.314187', '2025-11-18 10:01:07.388469', '{"paths": ["README.md"], "read_only_context": ["docs/"]}', 0, NULL);

INSERT INTO llm_usage_events (
  id, provider, model, run_id, phase_id, role, prompt_tokens, completion_tokens, created_at, is_doctor_call
) VALUES
  (1, 'openai', 'gpt-4o-mini', 'checkout-spike-v0', 'spike-form', 'builder', 1600, 2400, '2025-11-01 09:10:10.047290', 0),
  (2, 'openai', 'gpt-4o-mini', 'checkout-spike-v0', 'spike-form', 'builder', 1885, 2828, '2025-11-01 09:11:17.152019', 0),
  (3, 'openai', 'gpt-4o-mini', 'checkout-spike-v0', 'spike-form', 'builder', 2170, 3256, '2025-11-01 09:12:24.256748', 0),
  (4, 'openai', 'gpt-4o-mini', 'checkout-spike-v0', 'spike-form', 'builder', 2455, 3684, '2025-11-01 09:13:31.361477', 0),
  (5, 'openai', 'gpt-4o-mini', 'checkout-spike-v0', 'spike-form', 'builder', 2740, 4112, '2025-11-01 09:14:38.466206', 0),
  (6, 'openai', 'gpt-4o-mini', 'checkout-spike-v0', 'spike-form', 'builder', 3026, 4539, '2025-11-01 09:15:45.570935', 0),
  (7, 'anthropic', 'claude-sonnet-4-5', 'webshop-search-v1', 'search-index', 'builder', 1686, 2530, '2025-11-03 09:10:10.047290', 0),
  (8, 'openai', 'gpt-4o', 'webshop-search-v1', 'search-index', 'auditor', 3081, 2054, '2025-11-03 09:11:17.152019', 0),
  (9, 'anthropic', 'claude-sonnet-4-5', 'webshop-search-v1', 'search-query', 'builder', 4093, 6141, '2025-11-03 09:12:24.256748', 0),
  (10, 'openai', 'gpt-4o', 'webshop-search-v1', 'search-query', 'auditor', 3646, 2431, '2025-11-03 09:13:31.361477', 0),
  (11, 'openai', 'gpt-4o', 'webshop-search-v1', 'search-query', 'auditor', 2971, 1981, '2025-11-03 09:15:45.570935', 0),
  (12, 'anthropic', 'claude-sonnet-4-5', 'webshop-search-v1', 'search-query', 'builder', 5892, 8839, '2025-11-03 09:19:13.989851', 0),
  (13, 'anthropic', 'claude-sonnet-4-5', 'webshop-checkout-v1', 'basket-model', 'builder', 5034, 7553, '2025-11-04 09:11:17.152019', 0),
  (14, 'openai', 'gpt-4o', 'webshop-checkout-v1', 'basket-model', 'auditor', 2655, 1771, '2025-11-04 09:12:24.256748', 0),
  (15, 'anthropic', 'claude-sonnet-4-5', 'webshop-checkout-v1', 'receipt-mail', 'builder', 4035, 6053, '2025-11-04 09:13:31.361477', 0),
  (16, 'openai', 'gpt-4o', 'webshop-checkout-v1', 'receipt-mail', 'auditor', 3639, 2427, '2025-11-04 09:14:38.466206', 0),
  (17, 'anthropic', 'claude-sonnet-4-5', 'docs-refresh-v2', 'handbook-outline', 'builder', 5080, 7620, '2025-11-05 09:10:10.047290', 0),
  (18, 'openai', 'gpt-4o', 'docs-refresh-v2', 'handbook-outline', 'auditor', 2087, 1392, '2025-11-05 09:11:17.152019', 0),
  (19, 'anthropic', 'claude-sonnet-4-5', 'docs-refresh-v2', 'handbook-operate', 'builder', 5800, 8701, '2025-11-05 09:12:24.256748', 0),
  (20, 'openai', 'gpt-4o', 'docs-refresh-v2', 'handbook-operate', 'auditor', 1509, 1006, '2025-11-05 09:13:31.361477', 0),
  (21, 'openai', 'gpt-4o', 'media-transcode-v1', 'transcode-video', 'auditor', 3531, 2355, '2025-11-13 09:10:10.047290', 0),
  (22, 'anthropic', 'claude-sonnet-4-5', 'media-transcode-v1', 'transcode-audio', 'builder', 2896, 4344, '2025-11-13 09:11:17.152019', 0),
  (23, 'openai', 'gpt-4o', 'media-transcode-v1', 'transcode-audio', 'auditor', 1737, 1158, '2025-11-13 09:12:24.256748', 0),
  (24, 'anthropic', 'claude-sonnet-4-5', 'media-transcode-v1', 'transcode-video', 'builder', 5381, 8073, '2025-11-13 09:14:38.466206', 0),
  (25, 'anthropic', 'claude-sonnet-4-5', 'contract-summary-v1', 'contract-extract', 'builder', 3011, 4517, '2025-11-14 09:13:31.361477', 0),
  (26, 'openai', 'gpt-4o', 'contract-summary-v1', 'contract-extract', 'auditor', 2494, 1664, '2025-11-14 09:14:38.466206', 0),
  (27, 'anthropic', 'claude-sonnet-4-5', 'contract-summary-v1', 'contract-extract', 'builder', 3095, 4644, '2025-11-14 09:15:45.570935', 0),
  (28, 'openai', 'gpt-4o', 'contract-summary-v1', 'contract-extract', 'auditor', 1117, 745, '2025-11-14 09:16:52.675664', 0),
  (29, 'anthropic', 'claude-sonnet-4-5', 'contract-summary-v1', 'contract-extract', 'builder', 2513, 3771, '2025-11-14 09:22:34.304038', 0),
  (30, 'openai', 'gpt-4o', 'contract-summary-v1', 'contract-extract', 'auditor', 3590, 2394, '2025-11-14 09:23:41.408767', 0),
  (31, 'openai', 'gpt-4o', 'legacy-port-v3', 'port-daily-report', 'auditor', 1261, 842, '2025-11-15 09:10:10.047290', 0),
  (32, 'anthropic', 'claude-sonnet-4-5', 'legacy-port-v3', 'port-monthly-report', 'builder', 1682, 2525, '2025-11-15 09:10:10.047290', 0),
  (33, 'openai', 'gpt-4o', 'legacy-port-v3', 'port-monthly-report', 'auditor', 2379, 1587, '2025-11-15 09:11:17.152019', 0),
  (34, 'anthropic', 'claude-sonnet-4-5', 'legacy-port-v3', 'port-daily-report', 'builder', 4070, 6107, '2025-11-15 09:14:38.466206', 0),
  (35, 'anthropic', 'claude-sonnet-4-5', 'legacy-port-v3', 'port-daily-report', 'builder', 2166, 3250, '2025-11-15 09:16:52.675664', 0),
  (36, 'openai', 'gpt-4o', 'legacy-port-v3', 'port-daily-report', 'auditor', 1812, 1209, '2025-11-15 09:17:59.780393', 0),
  (37, 'anthropic', 'claude-sonnet-4-5', 'legacy-port-v3', 'port-monthly-report', 'builder', 5155, 7734, '2025-11-15 09:17:59.780393', 0),
  (38, 'openai', 'gpt-4o', 'legacy-port-v3', 'port-monthly-report', 'auditor', 1215, 811, '2025-11-15 09:18:06.885122', 0),
  (39, 'anthropic', 'claude-sonnet-4-5', 'legacy-port-v3', 'port-daily-report', 'builder', 5961, 8942, '2025-11-15 09:23:41.408767', 0),
  (40, 'openai', 'gpt-4o', 'legacy-port-v3', 'port-daily-report', 'auditor', 3937, 2626, '2025-11-15 09:24:48.513496', 0),
  (41, 'openai', 'gpt-4o', 'search-ranking-v1', 'ranking-features', 'auditor', 1268, 846, '2025-11-17 09:10:10.047290', 0),
  (42, 'anthropic', 'claude-sonnet-4-5', 'search-ranking-v1', 'ranking-model', 'builder', 4986, 7480, '2025-11-17 09:13:31.361477', 0),
  (43, 'anthropic', 'claude-sonnet-4-5', 'search-ranking-v1', 'ranking-features', 'builder', 4273, 6411, '2025-11-17 09:14:38.466206', 0),
  (44, 'openai', 'gpt-4o', 'search-ranking-v1', 'ranking-model', 'auditor', 2245, 1498, '2025-11-17 09:14:38.466206', 0),
  (45, 'anthropic', 'claude-sonnet-4-5', 'search-ranking-v1', 'ranking-features', 'builder', 4483, 6725, '2025-11-17 09:16:52.675664', 0),
  (46, 'openai', 'gpt-4o', 'search-ranking-v1', 'ranking-features', 'auditor', 2779, 1854, '2025-11-17 09:17:59.780393', 0);

INSERT INTO token_estimation_v2_events (
  event_id, run_id, phase_id, timestamp, category, complexity, deliverable_count, deliverables_json, predicted_output_tokens, actual_output_tokens, selected_budget, success, truncated, stop_reason, model, created_at
) VALUES
  (1, 'webshop-search-v1', 'search-index', '2025-11-20 09:10:10.047290', 'IMPLEMENT_FEATURE', 'medium', 2, '["a.py", "b.py"]', 5200, 9100, 8192, 1, 0, 'end_turn', 'claude-sonnet-4-5', '2025-11-20 09:10:10.047290'),
  (2, 'webshop-search-v1', 'search-query', '2025-11-20 09:20:20', 'IMPLEMENT_FEATURE', 'high', 1, '["a.py"]', 9000, 16384, 9000, 0, 1, 'max_tokens', 'claude-sonnet-4-5', '2025-11-20 09:20:20'),
  (3, 'webshop-checkout-v1', 'basket-model', '2025-11-20 09:30:30.141870', 'implementation', 'medium', 2, '["a.py", "b.py"]', 5200, 8700, 8192, 1, 0, 'end_turn', 'claude-sonnet-4-5', '2025-11-20 09:30:30.141870'),
  (4, 'webshop-checkout-v1', 'basket-page', '2025-11-20 09:40:40', 'implementation', 'medium', 1, '["a.py"]', 4100, 7900, 8192, 1, 0, 'end_turn', 'claude-sonnet-4-5', '2025-11-20 09:40:40'),
  (5, 'webshop-checkout-v1', 'payment-intent', '2025-11-20 09:50:50.236450', 'implementation', 'medium', 2, '["a.py", "b.py"]', 6500, 11800, 8192, 1, 0, 'end_turn', 'claude-sonnet-4-5', '2025-11-20 09:50:50.236450'),
  (6, 'media-transcode-v1', 'transcode-audio', '2025-11-20 10:00:00', 'implementation', 'medium', 1, '["a.py"]', 4800, 8000, 8192, 1, 0, 'end_turn', 'claude-sonnet-4-5', '2025-11-20 10:00:00'),
  (7, 'search-ranking-v1', 'ranking-model', '2025-11-20 10:10:10.331030', 'IMPLEMENT_FEATURE', 'medium', 2, '["a.py", "b.py"]', 7000, 13300, 8192, 1, 0, 'end_turn', 'claude-sonnet-4-5', '2025-11-20 10:10:10.331030'),
  (8, 'docs-refresh-v2', 'handbook-outline', '2025-11-20 10:20:20', 'documentation', 'low', 1, '["a.py"]', 3900, 3700, 8192, 1, 0, 'end_turn', 'claude-sonnet-4-5', '2025-11-20 10:20:20'),
  (9, 'docs-refresh-v2', 'handbook-install', '2025-11-20 10:30:30.425610', 'docs', 'low', 2, '["a.py", "b.py"]', 3900, 4200, 8192, 1, 0, 'end_turn', 'claude-sonnet-4-5', '2025-11-20 10:30:30.425610'),
  (10, 'docs-refresh-v2', 'handbook-operate', '2025-11-20 10:40:40', 'documentation', 'low', 1, '["a.py"]', 5200, 5000, 8192, 0, 0, 'end_turn', 'claude-sonnet-4-5', '2025-11-20 10:40:40'),
  (11, 'legacy-port-v3', 'port-daily-report', '2025-11-20 10:50:50.520190', 'refactoring', 'high', 2, '["a.py", "b.py"]', 9800, 8192, 9800, 0, 1, 'max_tokens', 'claude-sonnet-4-5', '2025-11-20 10:50:50.520190'),
  (12, 'legacy-port-v3', 'port-monthly-report', '2025-11-20 11:00:00', 'refactoring', 'medium', 1, '["a.py"]', 6100, 5800, 8192, 1, 0, 'end_turn', 'claude-sonnet-4-5', '2025-11-20 11:00:00'),
  (13, 'unknown', 'spike-form', '2025-11-20 11:10:10.614770', 'implementation', 'low', 2, '["a.py", "b.py"]', 2600, 2500, 8192, 1, 0, 'end_turn', 'claude-sonnet-4-5', '2025-11-20 11:10:10.614770');
