module github.com/nsq-suite/nsq

go 1.26.0

require (
	github.com/BurntSushi/toml v1.6.0
	github.com/golang/snappy v1.0.0
	github.com/julienschmidt/httprouter v1.3.0
	github.com/klauspost/compress v1.20.3
	github.com/mreiferson/go-options v1.0.0
	golang.org/x/sync v0.24.0
	golang.org/x/term v0.46.0
)

require golang.org/x/sys v0.48.0 // indirect
