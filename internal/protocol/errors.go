package protocol

// Codes of error frames and of nsqlookupd's error replies. Clients take the code
// as the text up to the first space. Source: TCP protocol spec, "Error model".
const (
	CodeBadProtocol    = "E_BAD_PROTOCOL"
	CodeInvalid        = "E_INVALID"
	CodeBadBody        = "E_BAD_BODY"
	CodeBadTopic       = "E_BAD_TOPIC"
	CodeBadChannel     = "E_BAD_CHANNEL"
	CodeBadMessage     = "E_BAD_MESSAGE"
	CodeIdentifyFailed = "E_IDENTIFY_FAILED"
	CodeAuthFirst      = "E_AUTH_FIRST"
	CodeAuthFailed     = "E_AUTH_FAILED"
	CodeUnauthorized   = "E_UNAUTHORIZED"
	CodeAuthDisabled   = "E_AUTH_DISABLED"
	CodeAuthError      = "E_AUTH_ERROR"
	CodeSubFailed      = "E_SUB_FAILED"
	CodePubFailed      = "E_PUB_FAILED"
	CodeMpubFailed     = "E_MPUB_FAILED"
	CodeDpubFailed     = "E_DPUB_FAILED"
	CodeFinFailed      = "E_FIN_FAILED"
	CodeReqFailed      = "E_REQ_FAILED"
	CodeTouchFailed    = "E_TOUCH_FAILED"
)

// An Error is what an error frame says. Clients match on Code; Fatal errors
// close the connection once the frame is written.
type Error struct {
	Code, Desc string
	Fatal      bool
	Err        error // cause, logged but never sent; may be nil
}

// Error returns the data of the error frame: code, a space and the description,
// or the code alone.
func (e *Error) Error() string {
	if e.Desc == "" {
		return e.Code
	}
	return e.Code + " " + e.Desc
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
