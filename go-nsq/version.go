package nsq

// VERSION is the version of this library. It is part of the default user
// agent, "go-nsq/" + VERSION.
const VERSION = "1.1.0"
