<?php
// Laid by the role configure_wordpress: WordPress's object cache in a Redis. Where that does not answer, each page keeps
// what it has read for itself, as without one.

class WP_Object_Cache
{
    private array $here = [];
    private array $only_here = ['counts' => true, 'plugins' => true];
    private ?Redis $redis = null;

    public function __construct()
    {
        try {
            $redis = new Redis();
            $redis->connect(CLOUDPODS_REDIS_HOST, 6379, 1.0, null, 0, 1.0);
            $redis->auth(CLOUDPODS_REDIS_PASSWORD);
            $redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
            $this->redis = $redis;
        } catch (Throwable $error) {
            $this->lost($error);
        }
    }

    public function get($key, $group = '', $force = false, &$found = null)
    {
        $id = $this->id($key, $group);
        if (!$force && array_key_exists($id, $this->here)) {
            $found = true;
            return $this->copy($this->here[$id]);
        }
        // As an array, so that a value that is false differs from none.
        $kept = $this->shared($group) ? $this->ask(fn () => $this->redis->get($id)) : false;
        $found = is_array($kept);
        if ($found) {
            $this->here[$id] = $kept[0];
        }
        return $found ? $this->copy($kept[0]) : false;
    }

    public function set($key, $data, $group = '', $expire = 0): bool
    {
        $id = $this->id($key, $group);
        $this->here[$id] = $this->copy($data);
        if ($this->shared($group)) {
            $seconds = (int) $expire > 0 ? (int) $expire : 7 * 86400;
            $this->ask(fn () => $this->redis->setex($id, $seconds, [$data]));
        }
        return true;
    }

    public function add($key, $data, $group = '', $expire = 0): bool
    {
        if (wp_suspend_cache_addition()) {
            return false;
        }
        $this->get($key, $group, false, $found);
        return !$found && $this->set($key, $data, $group, $expire);
    }

    public function replace($key, $data, $group = '', $expire = 0): bool
    {
        $this->get($key, $group, false, $found);
        return $found && $this->set($key, $data, $group, $expire);
    }

    public function delete($key, $group = ''): bool
    {
        $id = $this->id($key, $group);
        $known = array_key_exists($id, $this->here);
        unset($this->here[$id]);
        return ($this->shared($group) && (bool) $this->ask(fn () => $this->redis->del($id))) || $known;
    }

    public function incr($key, $offset = 1, $group = '')
    {
        $now = $this->get($key, $group, true, $found);
        if (!$found) {
            return false;
        }
        $next = max(0, (is_numeric($now) ? (int) $now : 0) + (int) $offset);
        $this->set($key, $next, $group);
        return $next;
    }

    public function flush(): bool
    {
        $this->here = [];
        $this->ask(fn () => $this->redis->flushDB());
        return true;
    }

    public function add_non_persistent_groups($groups): void
    {
        $this->only_here += array_fill_keys((array) $groups, true);
    }

    private function shared($group): bool
    {
        return $this->redis !== null && !isset($this->only_here[$group ?: 'default']);
    }

    private function ask(callable $question)
    {
        try {
            return $this->redis === null ? false : $question();
        } catch (Throwable $error) {
            $this->lost($error);
            return false;
        }
    }

    private function lost(Throwable $error): void
    {
        $this->redis = null;
        error_log('object cache: ' . $error->getMessage());
    }

    private function id($key, $group): string
    {
        return 'wp:' . ($group ?: 'default') . ':' . $key;
    }

    private function copy($value)
    {
        return is_object($value) ? clone $value : $value;
    }
}

function wp_cache_init()
{
    $GLOBALS['wp_object_cache'] = new WP_Object_Cache();
}

function wp_cache_get($key, $group = '', $force = false, &$found = null)
{
    return $GLOBALS['wp_object_cache']->get($key, $group, $force, $found);
}

function wp_cache_set($key, $data, $group = '', $expire = 0)
{
    return $GLOBALS['wp_object_cache']->set($key, $data, $group, $expire);
}

function wp_cache_add($key, $data, $group = '', $expire = 0)
{
    return $GLOBALS['wp_object_cache']->add($key, $data, $group, $expire);
}

function wp_cache_replace($key, $data, $group = '', $expire = 0)
{
    return $GLOBALS['wp_object_cache']->replace($key, $data, $group, $expire);
}

function wp_cache_delete($key, $group = '')
{
    return $GLOBALS['wp_object_cache']->delete($key, $group);
}

function wp_cache_incr($key, $offset = 1, $group = '')
{
    return $GLOBALS['wp_object_cache']->incr($key, $offset, $group);
}

function wp_cache_decr($key, $offset = 1, $group = '')
{
    return $GLOBALS['wp_object_cache']->incr($key, -$offset, $group);
}

function wp_cache_flush()
{
    return $GLOBALS['wp_object_cache']->flush();
}

function wp_cache_add_non_persistent_groups($groups)
{
    $GLOBALS['wp_object_cache']->add_non_persistent_groups($groups);
}

// One site, so that every group is the whole installation's.
function wp_cache_add_global_groups($groups)
{
}

function wp_cache_switch_to_blog($blog_id)
{
}

function wp_cache_close()
{
    return true;
}
