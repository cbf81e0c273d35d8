//! The history of reports and probe verdicts, in an embedded database that may fail without anybody waiting for it.
