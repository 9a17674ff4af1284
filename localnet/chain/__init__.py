"""A Solana chain in this process: LiteSVM for execution, and around it what a validator keeps."""
