//! One request budget per credential, fed by what the API says of its limits.
