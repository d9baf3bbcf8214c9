package internal

import (
	_ "github.com/BurntSushi/toml"
	_ "github.com/golang/snappy"
	_ "github.com/julienschmidt/httprouter"
	_ "github.com/mreiferson/go-options"
	_ "golang.org/x/sync/errgroup"
)
