-- Paid jobs: what a hold was made for, and what came of it.
--
-- The tokens are under a hold (token_holds, whose hold_id is the generation's id) from before
-- the provider is called until the image is on the disk. The row here says what was asked,
-- who is at it (a lease that ends by itself) and what the provider answered; whether it was
-- paid is the hold's state, and only that.
CREATE TABLE tokenctl.generations (
  user_id        text COLLATE "C" NOT NULL,
  generation_id  text COLLATE "C" NOT NULL,
  model          text COLLATE "C" NOT NULL,
  quality        text COLLATE "C" NOT NULL,
  aspect_ratio   text COLLATE "C",
  price_version  text COLLATE "C" NOT NULL,
  -- sha256 over the prompt and the input images, in hex: the same key must ask for the same.
  input_sha256   text COLLATE "C" NOT NULL,
  attempts       integer NOT NULL DEFAULT 0,
  lease_by       text COLLATE "C",
  lease_until    timestamptz,
  response_id    text,
  model_version  text,
  usage          jsonb,
  image_sha256   text COLLATE "C",
  image_bytes    bigint,
  width          integer,
  height         integer,
  released_why   text COLLATE "C",
  created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT generations_pkey PRIMARY KEY (user_id, generation_id),
  CONSTRAINT generation_hold FOREIGN KEY (user_id, generation_id) REFERENCES tokenctl.token_holds (user_id, hold_id),
  CONSTRAINT generation_id_form CHECK (generation_id ~ '^[0-9a-f]{12}$'),
  CONSTRAINT quality_known CHECK (quality IN ('1K', '2K', '4K')),
  CONSTRAINT input_sha256_form CHECK (input_sha256 ~ '^[0-9a-f]{64}$'),
  CONSTRAINT lease_paired CHECK ((lease_by IS NULL) = (lease_until IS NULL)),
  CONSTRAINT attempts_range CHECK (attempts >= 0)
) PARTITION BY HASH (user_id);

DO $$
BEGIN
  FOR i IN 0 .. tokenctl.partition_count() - 1 LOOP
    EXECUTE format('CREATE TABLE tokenctl.%I PARTITION OF tokenctl.generations FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
      'generations_' || i, tokenctl.partition_count(), i);
  END LOOP;
END
$$;

GRANT SELECT ON tokenctl.generations TO tokenctl_reader;
