//! Why a verdict is what it is: the reasons that conditions and status show.

/// The probe succeeds.
pub const SUCCEEDED: &str = "ProbeSucceeded";
/// The address is private or otherwise special, and no setting allows it.
pub const ADDRESS_REFUSED: &str = "AddressRefused";
/// The name has no address, or the resolver does not answer.
pub const DNS_FAILURE: &str = "DNSFailure";
/// No connection, handshake or answer in time.
pub const TIMEOUT: &str = "Timeout";
/// Nobody listens at the port.
pub const CONNECTION_REFUSED: &str = "ConnectionRefused";
/// The connection was reset.
pub const CONNECTION_RESET: &str = "ConnectionReset";
/// The connection was closed before an answer.
pub const CONNECTION_CLOSED: &str = "ConnectionClosed";
/// The connection failed in another way.
pub const CONNECTION_FAILED: &str = "ConnectionFailed";
/// There is no route to the address.
pub const UNREACHABLE: &str = "NetworkUnreachable";
/// The TLS handshake failed in another way than by the certificate.
pub const TLS_ERROR: &str = "TLSError";
/// The certificate is no longer valid.
pub const CERTIFICATE_EXPIRED: &str = "CertificateExpired";
/// The certificate is not valid yet.
pub const CERTIFICATE_NOT_YET_VALID: &str = "CertificateNotYetValid";
/// The certificate names somebody else.
pub const CERTIFICATE_NAME_MISMATCH: &str = "CertificateNameMismatch";
/// The certificate's issuer is not trusted.
pub const CERTIFICATE_NOT_TRUSTED: &str = "CertificateNotTrusted";
/// There is no certificate for the name, or not yet.
pub const CERTIFICATE_MISSING: &str = "CertificateMissing";
/// The certificate cannot be used for another reason.
pub const CERTIFICATE_INVALID: &str = "CertificateInvalid";
/// The answer has a status that is not expected.
pub const UNEXPECTED_STATUS: &str = "UnexpectedStatus";
/// The answer is not HTTP/1.1, or its headers are too large.
pub const INVALID_RESPONSE: &str = "InvalidResponse";
/// Path, host or server name cannot be used in a request.
pub const INVALID_CHECK: &str = "InvalidCheck";
/// Who answers is another host than the one that is meant.
pub const WRONG_HOST: &str = "WrongHost";
/// The host does not know the name.
pub const NOT_ROUTED: &str = "NotRouted";
/// The host answers in place of an app, because none was deployed.
pub const PLACEHOLDER_ANSWERS: &str = "PlaceholderAnswers";
/// The host answers with the maintenance page.
pub const MAINTENANCE_PAGE: &str = "MaintenancePage";
/// The host is the right one, and reaches nothing behind it.
pub const UPSTREAM_502: &str = "Upstream502";
/// The host is the right one, and was told to send nobody to the app.
pub const UPSTREAM_503: &str = "Upstream503";
/// The probe could not be made, for a reason of our own.
pub const NOT_MADE: &str = "ProbeNotMade";
