"""What Arrow and Parquet bodies would unpack to, known before they are unpacked."""
